#pragma once
/// \file
/// Recurrent nets of every kind, as LibTorch's operators have them and written out.

#include <torch/script.h>
#include <torch/torch.h>

#include "diffmask/program/script.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask::recurrent_nets {

constexpr int64_t kPositions = 4, kFeatures = 3, kHidden = 2;

enum class Kind { rnn, gru, lstm };

struct Net {
  std::string name;
  Kind kind;
  int64_t layers = 1;
  bool both_ways = false, batch_first = true, biases = true;
  std::vector<int64_t> lengths = {};  // of packed sequences, from the longest; none: all positions
  bool from_zero = false;             // whether it starts from states of 0

  int64_t gates() const { return kind == Kind::rnn ? 1 : kind == Kind::gru ? 3 : 4; }
  int64_t directions() const { return both_ways ? 2 : 1; }

  // By layer and direction: of the input, of the state, and their biases.
  std::vector<at::Tensor> weights() const {
    std::vector<at::Tensor> result;
    for (int64_t i = 0; i < layers * directions(); ++i) {
      const int64_t inputs = i < directions() ? kFeatures : directions() * kHidden;
      const int64_t rows = gates() * kHidden;
      const auto seed = static_cast<uint64_t>(10 * i + 20);
      result.push_back(random_tensor({rows, inputs}, seed));
      result.push_back(random_tensor({rows, kHidden}, seed + 1));
      if (!biases) continue;
      result.push_back(random_tensor({rows}, seed + 2));
      result.push_back(random_tensor({rows}, seed + 3));
    }
    return result;
  }

  at::Tensor constant_lengths() const {
    const at::tracer::impl::NoTracerDispatchMode not_traced;
    return torch::tensor(lengths, at::kLong);
  }

  // h and c at the start. Shape: (layers x directions, B, H).
  at::Tensor start(int64_t batch, uint64_t seed) const {
    const at::Tensor states = random_tensor({layers * directions(), batch, kHidden}, seed);
    return from_zero ? at::zeros_like(states) : states;
  }
};

inline std::vector<Net> nets() {
  return {
      {"rnn", Kind::rnn},
      {"gru", Kind::gru},
      {"lstm", Kind::lstm},
      {"gru without biases", Kind::gru, 1, false, true, false},
      {"lstm without biases, positions first", Kind::lstm, 1, false, false, false},
      {"two layers of gru, both ways", Kind::gru, 2, true},
      {"two layers of lstm, both ways, positions first", Kind::lstm, 2, true, false},
      {"packed gru, both ways", Kind::gru, 2, true, true, true, {4, 2, 1}},
      {"packed lstm, both ways", Kind::lstm, 2, true, true, true, {4, 4, 2}},
  };
}

// Outputs and last states, side by side. Shape: x (B, P, F) -> (B, ...).
inline at::Tensor side_by_side(const at::Tensor& outputs, const std::vector<at::Tensor>& last) {
  std::vector<at::Tensor> all = {outputs.flatten(1)};
  for (const at::Tensor& state : last) all.push_back(state.transpose(0, 1).flatten(1));
  return at::cat(all, 1);
}

inline at::Tensor fused(const Net& net, const at::Tensor& given) {
  const std::vector<at::Tensor> weights = net.weights();
  const at::Tensor h = net.start(given.size(0), 5), c = net.start(given.size(0), 6);
  const auto call = [&](const auto&... x) -> std::vector<at::Tensor> {
    constexpr bool is_packed = sizeof...(x) == 2;
    const auto with = [&](const auto& f, const auto& start) {
      if constexpr (is_packed) {
        return f(x..., start, weights, net.biases, net.layers, 0.0, false, net.both_ways);
      } else {
        return f(x..., start, weights, net.biases, net.layers, 0.0, false, net.both_ways,
                 net.batch_first);
      }
    };
    if (net.kind == Kind::lstm) {
      const auto [y, last_h, last_c] =
          with([](const auto&... a) { return at::lstm(a...); }, std::vector<at::Tensor>{h, c});
      return {y, last_h, last_c};
    }
    const auto [y, last] = net.kind == Kind::gru
                               ? with([](const auto&... a) { return at::gru(a...); }, h)
                               : with([](const auto&... a) { return at::rnn_tanh(a...); }, h);
    return {y, last};
  };
  const auto states = [](const std::vector<at::Tensor>& result) {
    return std::vector<at::Tensor>(result.begin() + 1, result.end());
  };
  if (net.lengths.empty()) {
    const auto result = call(net.batch_first ? given : given.transpose(0, 1));
    return side_by_side(net.batch_first ? result[0] : result[0].transpose(0, 1), states(result));
  }
  const auto [data, sizes] = at::_pack_padded_sequence(given, net.constant_lengths(), true);
  const auto result = call(data, sizes);
  return side_by_side(std::get<0>(at::_pad_packed_sequence(result[0], sizes, true, 0, kPositions)),
                      states(result));
}

// The same as `fused` and its weighted sum of one layer without lengths, in TorchScript, which
// keeps LibTorch's operators for one step whole. Its site is "start".
inline std::shared_ptr<const FrozenModel> by_cells(const Net& net, int64_t batch,
                                                   bool one_bias = false) {
  torch::jit::Module start("Start");
  start.define("def forward(self, x):\n  return x.clone()\n");
  torch::jit::Module cells("Cells");
  cells.register_module("start", start);
  const std::vector<at::Tensor> weights = net.weights();
  std::string arguments = "self.w, self.u";
  cells.register_buffer("w", weights[0]);
  cells.register_buffer("u", weights[1]);
  if (net.biases && one_bias) {
    cells.register_buffer("sum", weights[2] + weights[3]);
    arguments += ", None, self.sum";
  } else if (net.biases) {
    cells.register_buffer("b", weights[2]);
    cells.register_buffer("d", weights[3]);
    arguments += ", self.b, self.d";
  }
  cells.register_buffer("h", net.start(batch, 5)[0]);
  cells.register_buffer("c", net.start(batch, 6)[0]);
  const bool is_lstm = net.kind == Kind::lstm;
  const std::string state = is_lstm ? "(h, c)" : "h";
  const std::string cell = net.kind == Kind::rnn ? "rnn_tanh_cell"
                           : is_lstm             ? "lstm_cell"
                                                 : "gru_cell";
  std::string forward =
      "def forward(self, x):\n  x, h, c = self.start.forward(x), self.h, self.c\n";
  std::string states;
  for (int64_t t = 0; t < kPositions; ++t) {
    forward += fmt::format("  {} = torch.{}(x[:, {}], {}, {})\n  h{} = h\n", state, cell, t,
                           is_lstm ? "[h, c]" : "h", arguments, t);
    states += fmt::format("h{}, ", t);
  }
  states += is_lstm ? "h, c" : "h";
  cells.register_buffer("weights", random_tensor({kHidden * (kPositions + (is_lstm ? 2 : 1))}, 9));
  cells.define(forward + "  return torch.mv(torch.cat([" + states + "], 1), self.weights)\n");
  cells.eval();
  const TemporaryFolder folder;
  cells.save(folder / "cells.pt");
  return load_script(folder / "cells.pt");
}

using Function = std::function<at::Tensor(const at::Tensor& a)>;

// What a net is written out with.
struct Activations {
  Function one_minus;  // 1 - sigmoid(a)
  Function sigmoid = [](const at::Tensor& a) { return at::sigmoid(a); };
  Function tanh = [](const at::Tensor& a) { return at::tanh(a); };
};

inline const Activations subtracted{[](const at::Tensor& a) { return 1 - at::sigmoid(a); }};
inline const Activations negated{[](const at::Tensor& a) { return at::sigmoid(-a); }};

// Of sequences of one length. Gives the outputs and the last states.
inline std::pair<at::Tensor, std::vector<at::Tensor>> written_out(const Net& net, at::Tensor x,
                                                                  const at::Tensor& starts_h,
                                                                  const at::Tensor& starts_c,
                                                                  const Activations& f) {
  const std::vector<at::Tensor> weights = net.weights();
  const size_t each = net.biases ? 4 : 2;
  std::vector<at::Tensor> last_h, last_c;
  for (int64_t layer = 0; layer < net.layers; ++layer) {
    std::vector<at::Tensor> ways;
    for (int64_t way = 0; way < net.directions(); ++way) {
      const int64_t i = layer * net.directions() + way;
      const at::Tensor* w = &weights[each * static_cast<size_t>(i)];
      const auto gates = [&](const at::Tensor& of, size_t which) {
        const at::Tensor all =
            net.biases ? at::linear(of, w[which], w[which + 2]) : at::linear(of, w[which]);
        return all.chunk(net.gates(), 1);
      };
      at::Tensor h = starts_h[i], c = starts_c[i];
      std::vector<at::Tensor> outputs(static_cast<size_t>(x.size(1)));
      for (int64_t k = 0; k < x.size(1); ++k) {
        const int64_t t = way == 0 ? k : x.size(1) - 1 - k;
        const auto a = gates(x.select(1, t), 0), b = gates(h, 1);
        if (net.kind == Kind::rnn) {
          h = f.tanh(a[0] + b[0]);
        } else if (net.kind == Kind::gru) {
          const at::Tensor r = f.sigmoid(a[0] + b[0]), of_z = a[1] + b[1];
          const at::Tensor n = f.tanh(a[2] + r * b[2]);
          h = f.one_minus(of_z) * n + f.sigmoid(of_z) * h;
        } else {
          c = f.sigmoid(a[1] + b[1]) * c + f.sigmoid(a[0] + b[0]) * f.tanh(a[2] + b[2]);
          h = f.sigmoid(a[3] + b[3]) * f.tanh(c);
        }
        outputs[static_cast<size_t>(t)] = h;
      }
      ways.push_back(at::stack(outputs, 1));
      last_h.push_back(h);
      last_c.push_back(c);
    }
    x = at::cat(ways, 2);
  }
  if (net.kind != Kind::lstm) return {x, {at::stack(last_h)}};
  return {x, {at::stack(last_h), at::stack(last_c)}};
}

// Packed sequences are run one by one.
inline at::Tensor written_out(const Net& net, const at::Tensor& x, const Activations& f) {
  const at::Tensor h = net.start(x.size(0), 5), c = net.start(x.size(0), 6);
  if (net.lengths.empty()) {
    const auto [outputs, last] = written_out(net, x, h, c, f);
    return side_by_side(outputs, last);
  }
  std::vector<at::Tensor> rows;
  for (size_t row = 0; row < net.lengths.size(); ++row) {
    const auto i = static_cast<int64_t>(row);
    const int64_t length = net.lengths[row];
    const auto [outputs, last] = written_out(net, x.narrow(0, i, 1).narrow(1, 0, length),
                                             h.narrow(1, i, 1), c.narrow(1, i, 1), f);
    const at::Tensor padded = at::constant_pad_nd(outputs, {0, 0, 0, kPositions - length});
    rows.push_back(side_by_side(padded, last));
  }
  return at::cat(rows);
}

inline std::shared_ptr<const FrozenModel> weighted(
    const std::function<at::Tensor(const at::Tensor&)>& f) {
  return model_of([f](const at::Tensor& x) {
    const at::Tensor y = f(x);
    return y.mv(random_tensor({y.size(1)}, 9));
  });
}

inline std::shared_ptr<const FrozenModel> whole(const Net& net) {
  return weighted([net](const at::Tensor& x) { return fused(net, x); });
}

inline std::shared_ptr<const FrozenModel> in_parts(const Net& net, const Activations& f) {
  return weighted([=](const at::Tensor& x) { return written_out(net, x, f); });
}

inline Batch example() { return numbered_batch(random_tensor({3, kPositions, kFeatures}, 1)); }

const AttributionOptions kOneNumber{.target = target::scalar};

}  // namespace diffmask::recurrent_nets
