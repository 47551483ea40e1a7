// Recurrent operators are taken apart for DeepLIFT and LRP: both give what they give of the same
// net written out.
#include <gtest/gtest.h>
#include <torch/script.h>
#include <torch/torch.h>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/program/script.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask::recurrent_nets {
namespace {

constexpr int64_t kPositions = 4, kFeatures = 3, kHidden = 2;

enum class Kind { rnn, gru, lstm };

struct Net {
  std::string name;
  Kind kind;
  int64_t layers = 1;
  bool both_ways = false, batch_first = true, biases = true;
  std::vector<int64_t> lengths = {};  // of packed sequences, from the longest; none: all positions

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
    return random_tensor({layers * directions(), batch, kHidden}, seed);
  }
};

std::vector<Net> nets() {
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
at::Tensor side_by_side(const at::Tensor& outputs, const std::vector<at::Tensor>& last) {
  std::vector<at::Tensor> all = {outputs.flatten(1)};
  for (const at::Tensor& state : last) all.push_back(state.transpose(0, 1).flatten(1));
  return at::cat(all, 1);
}

at::Tensor fused(const Net& net, const at::Tensor& given) {
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
std::shared_ptr<const FrozenModel> by_cells(const Net& net, int64_t batch, bool one_bias = false) {
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

using OneMinus = std::function<at::Tensor(const at::Tensor& a)>;  // 1 - sigmoid(a)

at::Tensor subtracted(const at::Tensor& a) { return 1 - at::sigmoid(a); }
at::Tensor negated(const at::Tensor& a) { return at::sigmoid(-a); }

// Of sequences of one length. Gives the outputs and the last states.
std::pair<at::Tensor, std::vector<at::Tensor>> written_out(const Net& net, at::Tensor x,
                                                           const at::Tensor& starts_h,
                                                           const at::Tensor& starts_c,
                                                           const OneMinus& one_minus) {
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
          h = at::tanh(a[0] + b[0]);
        } else if (net.kind == Kind::gru) {
          const at::Tensor r = at::sigmoid(a[0] + b[0]), of_z = a[1] + b[1];
          const at::Tensor n = at::tanh(a[2] + r * b[2]);
          h = one_minus(of_z) * n + at::sigmoid(of_z) * h;
        } else {
          c = at::sigmoid(a[1] + b[1]) * c + at::sigmoid(a[0] + b[0]) * at::tanh(a[2] + b[2]);
          h = at::sigmoid(a[3] + b[3]) * at::tanh(c);
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
at::Tensor written_out(const Net& net, const at::Tensor& x, const OneMinus& one_minus) {
  const at::Tensor h = net.start(x.size(0), 5), c = net.start(x.size(0), 6);
  if (net.lengths.empty()) {
    const auto [outputs, last] = written_out(net, x, h, c, one_minus);
    return side_by_side(outputs, last);
  }
  std::vector<at::Tensor> rows;
  for (size_t row = 0; row < net.lengths.size(); ++row) {
    const auto i = static_cast<int64_t>(row);
    const int64_t length = net.lengths[row];
    const auto [outputs, last] = written_out(net, x.narrow(0, i, 1).narrow(1, 0, length),
                                             h.narrow(1, i, 1), c.narrow(1, i, 1), one_minus);
    const at::Tensor padded = at::constant_pad_nd(outputs, {0, 0, 0, kPositions - length});
    rows.push_back(side_by_side(padded, last));
  }
  return at::cat(rows);
}

std::shared_ptr<const FrozenModel> weighted(const std::function<at::Tensor(const at::Tensor&)>& f) {
  return model_of([f](const at::Tensor& x) {
    const at::Tensor y = f(x);
    return y.mv(random_tensor({y.size(1)}, 9));
  });
}

std::shared_ptr<const FrozenModel> whole(const Net& net) {
  return weighted([net](const at::Tensor& x) { return fused(net, x); });
}

std::shared_ptr<const FrozenModel> in_parts(const Net& net, const OneMinus& one_minus) {
  return weighted([=](const at::Tensor& x) { return written_out(net, x, one_minus); });
}

Batch example() { return numbered_batch(random_tensor({3, kPositions, kFeatures}, 1)); }

const AttributionOptions kOneNumber{.target = target::scalar};

TEST(RecurrentTest, DeepLiftGivesWhatItGivesOfTheParts) {
  const AttributionOptions options{
      .target = target::scalar,
      .fill = fill::given({{"x", random_tensor({kPositions, kFeatures}, 2)}})};
  for (const Net& net : nets()) {
    SCOPED_TRACE(net.name);
    const Batch batch = example();
    EXPECT_LE(
        relative_error(fused(net, batch.inputs[0]), written_out(net, batch.inputs[0], subtracted)),
        1e-12);
    const Attribution parts = DeepLift(in_parts(net, subtracted), options).attribute(batch);
    const Attribution result = DeepLift(whole(net), options).attribute(batch);
    EXPECT_LE(relative_error(result.features[0], parts.features[0]), 1e-9);
    EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
  }
}

TEST(RecurrentTest, LrpGivesWhatItGivesOfTheParts) {
  using Rest = LrpOptions::Rest;
  for (const Net& net : nets()) {
    SCOPED_TRACE(net.name);
    const auto relevance = [&](const std::shared_ptr<const FrozenModel>& model, Rest rest) {
      const LrpOptions options{.epsilon = 1e-12, .rest = rest};
      return Lrp(model, kOneNumber, options).attribute(example()).features[0];
    };
    EXPECT_LE(relative_error(relevance(whole(net), Rest::lost),
                             relevance(in_parts(net, negated), Rest::lost)),
              1e-8);
    // The 1 of 1 - z gets nothing where the rest is spread, either.
    EXPECT_LE(relative_error(relevance(whole(net), Rest::spread),
                             relevance(in_parts(net, subtracted), Rest::spread)),
              1e-8);
  }
}

TEST(RecurrentTest, LrpConservesRelevance) {
  for (const Net& net : nets()) {
    SCOPED_TRACE(net.name);
    const Lrp method(whole(net), kOneNumber, {.rest = LrpOptions::Rest::spread});
    EXPECT_LE(method.attribute(example()).gap.abs().max().item<double>(), 1e-3);
  }
}

TEST(RecurrentTest, CellsGiveWhatTheWholeGives) {
  for (const Net& net : nets()) {
    if (net.layers > 1) continue;
    SCOPED_TRACE(net.name);
    const Batch batch = example();
    const auto cells = by_cells(net, batch.size()), sequence = whole(net);
    EXPECT_LE(relative_error(cells->record(batch.inputs).output(),
                             sequence->record(batch.inputs).output()),
              1e-12);
    EXPECT_LE(relative_error(DeepLift(cells, kOneNumber).attribute(batch).features[0],
                             DeepLift(sequence, kOneNumber).attribute(batch).features[0]),
              1e-9);
    const LrpOptions lrp{.epsilon = 1e-12};
    EXPECT_LE(relative_error(Lrp(cells, kOneNumber, lrp).attribute(batch).features[0],
                             Lrp(sequence, kOneNumber, lrp).attribute(batch).features[0]),
              1e-8);
  }
}

// LibTorch takes the cells of C++ code apart before a trace sees them, with operators in place.
TEST(RecurrentTest, CellsOfATraceHaveRules) {
  const auto traced = [](const Net& net) {
    return weighted([net](const at::Tensor& x) {
      const auto w = net.weights();
      at::Tensor h = net.start(x.size(0), 5)[0], c = net.start(x.size(0), 6)[0];
      std::vector<at::Tensor> outputs;
      for (int64_t t = 0; t < kPositions; ++t) {
        const at::Tensor now = x.select(1, t);
        if (net.kind == Kind::lstm) {
          std::tie(h, c) = at::lstm_cell(now, {h, c}, w[0], w[1], w[2], w[3]);
        } else if (net.kind == Kind::gru) {
          h = at::gru_cell(now, h, w[0], w[1], w[2], w[3]);
        } else {
          h = at::rnn_tanh_cell(now, h, w[0], w[1], w[2], w[3]);
        }
        outputs.push_back(h);
      }
      if (net.kind == Kind::lstm)
        return side_by_side(at::stack(outputs, 1), {h.unsqueeze(0), c.unsqueeze(0)});
      return side_by_side(at::stack(outputs, 1), {h.unsqueeze(0)});
    });
  };
  for (const Net& net : {Net{"rnn", Kind::rnn}, Net{"gru", Kind::gru}, Net{"lstm", Kind::lstm}}) {
    SCOPED_TRACE(net.name);
    const Batch batch = example();
    const auto cells = traced(net), parts = in_parts(net, subtracted);
    EXPECT_LE(
        relative_error(cells->record(batch.inputs).output(), parts->record(batch.inputs).output()),
        1e-12);
    const Lrp spread(cells, kOneNumber, {.rest = LrpOptions::Rest::spread});
    EXPECT_LE(spread.attribute(batch).gap.abs().max().item<double>(), 1e-3);
    EXPECT_LE(DeepLift(cells, kOneNumber).attribute(batch).gap.abs().max().item<double>(), 1e-9);
    EXPECT_LE(relative_error(DeepLift(cells, kOneNumber).attribute(batch).features[0],
                             DeepLift(parts, kOneNumber).attribute(batch).features[0]),
              1e-9);
    if (net.kind == Kind::gru) continue;  // its state is n + z (h - n) there, which LRP tells
    const LrpOptions lrp{.epsilon = 1e-12};
    EXPECT_LE(relative_error(Lrp(cells, kOneNumber, lrp).attribute(batch).features[0],
                             Lrp(parts, kOneNumber, lrp).attribute(batch).features[0]),
              1e-8);
  }
}

// An LSTM's gates know no difference between the biases.
TEST(RecurrentTest, ACellMayHaveOneBias) {
  const Net net{"lstm", Kind::lstm};
  const Batch batch = example();
  const auto one = by_cells(net, batch.size(), /*one_bias=*/true);
  EXPECT_LE(relative_error(DeepLift(one, kOneNumber).attribute(batch).features[0],
                           DeepLift(whole(net), kOneNumber).attribute(batch).features[0]),
            1e-9);
}

// As TorchScript keeps it: a trace of a native model runs the net, and dropout, twice.
TEST(RecurrentTest, RefusesDropoutAtWork) {
  torch::jit::Module start("Start"), net("Net");
  start.define("def forward(self, x):\n  return x.clone()\n");
  net.register_module("start", start);
  const Net layers{"gru", Kind::gru, 2};
  std::string weights;
  int64_t number = 0;
  for (const at::Tensor& weight : layers.weights()) {
    const std::string name = fmt::format("w{}", number++);
    net.register_buffer(name, weight);
    weights += "self." + name + ", ";
  }
  net.register_buffer("h", layers.start(3, 5));
  net.define("def forward(self, x):\n  return torch.gru(self.start.forward(x), self.h, [" +
             weights + "], True, 2, 0.5, True, False, True)[0].sum(2).sum(1)\n");
  net.eval();
  const TemporaryFolder folder;
  net.save(folder / "net.pt");
  const auto model = load_script(folder / "net.pt");
  expect_refused<ArgumentError>(
      {{"dropout", [&] { DeepLift(model, kOneNumber).attribute(example()); },
        "has to be 0 or at rest, but got 0.5"}});
}

// Where nothing is below 0, rnn_relu is linear: h = sum_t U^(T - 1 - t) W x_t.
TEST(RecurrentTest, LrpOfALinearRecurrence) {
  const at::Tensor x = random_tensor({2, kPositions, kFeatures}, 1).abs();
  const at::Tensor w = random_tensor({kHidden, kFeatures}, 2).abs(),
                   u = random_tensor({kHidden, kHidden}, 3).abs();
  const auto last = [=](const at::Tensor& state) {
    const at::Tensor start = at::zeros({1, state.size(0), kHidden}, state.options());
    return std::get<1>(at::rnn_relu(state, start, {w, u}, false, 1, 0.0, false, false, true))
        .sum(at::IntArrayRef({0, 2}));
  };
  at::Tensor slope = at::ones({1, kHidden}, at::kDouble), expected = at::empty_like(x);
  for (int64_t t = kPositions; t-- > 0; slope = slope.mm(u)) {
    expected.select(1, t).copy_(x.select(1, t) * slope.mm(w));
  }
  const Lrp method(model_of(last), kOneNumber, {.epsilon = 1e-12});
  EXPECT_LE(relative_error(method.attribute(numbered_batch(x)).features[0], expected), 1e-9);
}

// Without its gates' share: an entry reaches the parts.
TEST(RecurrentTest, TheTablesRulesReachTheGates) {
  const Net net{"gru", Kind::gru};
  const auto relevance = [&](std::vector<LrpEntry> rules) {
    return Lrp(whole(net), kOneNumber, {.rules = std::move(rules)})
        .attribute(example())
        .features[0];
  };
  const at::Tensor all = relevance({});
  for (const LrpEntry& entry : std::vector<LrpEntry>{
           {.operators = "aten::sigmoid", .rule = lrp::stop()}, {.rule = lrp::gamma()}}) {
    EXPECT_GT(relative_error(relevance({entry}), all), 1e-2);
  }
}

}  // namespace
}  // namespace diffmask::recurrent_nets
