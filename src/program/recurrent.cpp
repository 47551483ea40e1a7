#include "program/recurrent.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using Tensors = std::vector<at::Tensor>;

// What all recurrent operators are taken apart into.
class Parts {
 protected:
  struct State {
    Slot h, c;  // c: of an LSTM
  };
  struct Weights {
    std::vector<Slot> w, b, u, d;  // by gate
    Slot projection;
  };

  Parts(const Step& whole, Stack& values)
      : whole_(whole),
        values_(values),
        is_lstm_(whole.operation.starts_with("aten::lstm")),
        gates_(is_lstm_                                   ? 4
               : whole.operation.starts_with("aten::gru") ? 3
                                                          : 1) {
    none_ = constant({});
  }

  Slot constant(c10::IValue value) {
    values_.push_back(std::move(value));
    return static_cast<Slot>(values_.size()) - 1;
  }

  Slot add(const std::string& operation, std::vector<Slot> inputs,
           std::function<at::Tensor(const Tensors&)> f, Slot output = -1) {
    if (output < 0) output = constant({});
    const Call call = [f = std::move(f)](Stack& stack) {
      Tensors x;
      for (const c10::IValue& v : stack) x.push_back(v.isTensor() ? v.toTensor() : at::Tensor());
      stack.assign(1, f(x));
    };
    const std::string full = "aten::" + operation;
    steps_.push_back(
        {full + " of " + whole_.name, call, std::move(inputs), {output}, full, whole_.module});
    return output;
  }

  std::vector<Slot> unpack(Slot list, size_t count) {
    std::vector<Slot> slots;
    while (slots.size() < count) slots.push_back(constant({}));
    const Call call = [](Stack& stack) {
      const Tensors elements = stack.back().toTensorVector();
      stack.assign(elements.begin(), elements.end());
    };
    steps_.push_back({kUnpack, call, {list}, slots, kUnpack, whole_.module});
    return slots;
  }

  // Rows begin .. end - 1 of so many.
  Slot part(Slot x, int64_t begin, int64_t end, int64_t of) {
    if (end - begin == of) return x;
    return add("slice", {x}, [=](const Tensors& t) { return t[0].slice(0, begin, end); });
  }
  Slot select(Slot x, int64_t index) {
    return add("select", {x}, [=](const Tensors& t) { return t[0].select(0, index); });
  }
  Slot cat(const std::vector<Slot>& parts, int64_t dim) {
    if (parts.size() == 1) return parts[0];
    return add("cat", parts, [dim](const Tensors& t) { return at::cat(t, dim); });
  }
  Slot linear(Slot x, Slot w, Slot b) {
    return add("linear", {x, w, b}, [](const Tensors& t) { return at::linear(t[0], t[1], t[2]); });
  }
  Slot sum(Slot a, Slot b) {
    return add("add", {a, b}, [](const Tensors& t) { return t[0] + t[1]; });
  }
  Slot product(Slot a, Slot b) {
    return add("mul", {a, b}, [](const Tensors& t) { return t[0] * t[1]; });
  }
  Slot sigmoid(Slot x) {
    return add("sigmoid", {x}, [](const Tensors& t) { return t[0].sigmoid(); });
  }
  Slot tanh(Slot x) {
    return add("tanh", {x}, [](const Tensors& t) { return t[0].tanh(); });
  }
  Slot relu(Slot x) {
    return add("relu", {x}, [](const Tensors& t) { return t[0].relu(); });
  }
  Slot negative(Slot x) {
    return add("neg", {x}, [](const Tensors& t) { return t[0].neg(); });
  }

  std::vector<Slot> by_gate(Slot weights) {
    std::vector<Slot> result;
    for (int64_t gate = 0; gate < gates_; ++gate) {
      result.push_back(add("chunk", {weights}, [gate, count = gates_](const Tensors& t) {
        return t[0].chunk(count)[static_cast<size_t>(gate)];
      }));
    }
    return result;
  }

  // x: W x + b, by gate.
  State cell(const std::vector<Slot>& x, const State& state, const Weights& weights) {
    const auto of_h = [&](size_t gate) {
      return linear(state.h, weights.u[gate], weights.d[gate]);
    };
    const auto a = [&](size_t gate) { return sum(x[gate], of_h(gate)); };
    if (is_lstm_) {
      const Slot i = sigmoid(a(0)), f = sigmoid(a(1)), g = tanh(a(2)), o = sigmoid(a(3));
      const Slot c = sum(product(f, state.c), product(i, g)), h = product(o, tanh(c));
      return {weights.projection == none_ ? h : linear(h, weights.projection, none_), c};
    }
    if (gates_ == 3) {
      const Slot r = sigmoid(a(0)), of_z = a(1), z = sigmoid(of_z);
      const Slot n = tanh(sum(x[2], product(r, of_h(2))));
      return {sum(product(sigmoid(negative(of_z)), n), product(z, state.h)), none_};
    }
    return {whole_.operation.starts_with("aten::rnn_relu") ? relu(a(0)) : tanh(a(0)), none_};
  }

  const Step& whole_;
  Stack& values_;
  bool is_lstm_;
  int64_t gates_;
  Slot none_ = -1;
  std::vector<Step> steps_;
};

// One step of one layer: of x, the state (an LSTM's two as a list), W, U and, or none, b, d.
class Cell : Parts {
 public:
  Cell(const Step& whole, const Stack& inputs, Stack& values)
      : Parts(whole, values), has_b_(!inputs.at(4).isNone()), has_d_(!inputs.at(5).isNone()) {}

  std::vector<Step> operator()() {
    const auto& in = whole_.inputs;
    const std::vector<Slot> given = is_lstm_ ? unpack(in[1], 2) : std::vector<Slot>{in[1], none_};
    const std::vector<Slot> none(static_cast<size_t>(gates_), none_);
    const Weights weights{by_gate(in[2]), has_b_ ? by_gate(in[4]) : none, by_gate(in[3]),
                          has_d_ ? by_gate(in[5]) : none, none_};
    std::vector<Slot> x;
    for (size_t gate = 0; gate < weights.w.size(); ++gate) {
      x.push_back(linear(in[0], weights.w[gate], weights.b[gate]));
    }
    const State next = cell(x, {given[0], given[1]}, weights);
    const auto alias = [](const Tensors& t) { return t[0].alias(); };
    add("view", {next.h}, alias, whole_.outputs[0]);
    if (is_lstm_) add("view", {next.c}, alias, whole_.outputs[1]);
    return std::move(steps_);
  }

 private:
  bool has_b_, has_d_;
};

// All sequences are taken as packed ones: the rows of all steps in one matrix, sizes[t] of them of
// step t, never more than of the step before. A whole batch is that with equal sizes.
class Unrolling : Parts {
 public:
  Unrolling(const Step& whole, const Stack& inputs, Stack& values)
      : Parts(whole, values),
        packed_(inputs.at(3).isTensorList()),
        first_(packed_ ? 2 : 1),
        has_biases_(inputs[first_ + 2].toBool()),
        layers_(inputs[first_ + 3].toInt()),
        directions_(inputs[first_ + 6].toBool() ? 2 : 1),
        batch_first_(!packed_ && inputs[first_ + 7].toBool()) {
    const double dropout = inputs[first_ + 4].toDouble();
    require(layers_ == 1 || dropout == 0 || !inputs[first_ + 5].toBool(),
            fmt::format("dropout of {}", whole.name), "0 or at rest", dropout);
    const at::Tensor x = inputs[0].toTensor();
    if (packed_) {
      const at::Tensor sizes = inputs[1].toTensor().contiguous();
      sizes_.assign(sizes.data_ptr<int64_t>(), sizes.data_ptr<int64_t>() + sizes.numel());
    } else {
      sizes_.assign(static_cast<size_t>(x.size(batch_first_ ? 1 : 0)),
                    x.size(batch_first_ ? 0 : 1));
    }
    require(!sizes_.empty(), fmt::format("the sequences of {}", whole.name), "of a step or more",
            0);
    given_ = is_lstm_ ? unpack(whole.inputs[first_], 2) : std::vector<Slot>{whole.inputs[first_]};
    weights_ = unpack(whole.inputs[first_ + 1], inputs[first_ + 1].toListRef().size());
  }

  std::vector<Step> operator()() {
    Slot data = whole_.inputs[0];
    if (!packed_) {
      data = add("reshape", {data}, [batch_first = batch_first_](const Tensors& x) {
        return (batch_first ? x[0].transpose(0, 1) : x[0]).flatten(0, 1);
      });
    }
    std::vector<State> last;
    for (int64_t layer = 0; layer < layers_; ++layer) {
      std::vector<Slot> outputs;
      for (int64_t direction = 0; direction < directions_; ++direction) {
        outputs.push_back(run(data, layer * directions_ + direction, direction == 1, last));
      }
      data = cat(outputs, 1);
    }
    const int64_t steps = static_cast<int64_t>(sizes_.size()), rows = sizes_[0];
    add(
        "view", {data},
        [=, packed = packed_, batch_first = batch_first_](const Tensors& x) {
          if (packed) return x[0].alias();
          const at::Tensor sequences = x[0].view({steps, rows, -1});
          return batch_first ? sequences.transpose(0, 1) : sequences;
        },
        whole_.outputs[0]);
    for (size_t part = 0; part < given_.size(); ++part) {
      std::vector<Slot> states;
      for (const State& state : last) states.push_back(part == 0 ? state.h : state.c);
      const auto stack = [](const Tensors& x) { return at::stack(x); };
      add("stack", states, stack, whole_.outputs[part + 1]);
    }
    return std::move(steps_);
  }

 private:
  // The rows of each step.
  std::vector<Slot> by_step(Slot x) {
    std::vector<Slot> slots;
    while (slots.size() < sizes_.size()) slots.push_back(constant({}));
    const Call call = [sizes = sizes_](Stack& stack) {
      const Tensors rows = stack.back().toTensor().split_with_sizes(sizes, 0);
      stack.assign(rows.begin(), rows.end());
    };
    steps_.push_back({"aten::split_with_sizes of " + whole_.name,
                      call,
                      {x},
                      slots,
                      "aten::split_with_sizes",
                      whole_.module});
    return slots;
  }

  Weights weights(int64_t number) {
    const size_t each = weights_.size() / static_cast<size_t>(layers_ * directions_);
    const Slot* own = &weights_[each * static_cast<size_t>(number)];
    const std::vector<Slot> none(static_cast<size_t>(gates_), none_);
    return {by_gate(own[0]), has_biases_ ? by_gate(own[2]) : none, by_gate(own[1]),
            has_biases_ ? by_gate(own[3]) : none, each % 2 == 1 ? own[each - 1] : none_};
  }

  // One layer in one direction: its outputs, as packed; the state that each sequence ends with is
  // put behind `last`.
  Slot run(Slot data, int64_t number, bool backward, std::vector<State>& last) {
    const Weights weights = this->weights(number);
    const auto first = [&](Slot of) { return select(of, number); };
    const State start{first(given_[0]), is_lstm_ ? first(given_[1]) : none_};
    std::vector<std::vector<Slot>> of_x;
    for (size_t gate = 0; gate < weights.w.size(); ++gate) {
      of_x.push_back(by_step(linear(data, weights.w[gate], weights.b[gate])));
    }
    const auto both = [&](const std::function<Slot(Slot State::*)>& f) {
      return State{f(&State::h), is_lstm_ ? f(&State::c) : none_};
    };
    std::vector<Slot> outputs(sizes_.size());
    std::vector<State> ended;
    State state = start;
    int64_t rows = 0;
    for (size_t i = 0; i < sizes_.size(); ++i) {
      const size_t t = backward ? sizes_.size() - 1 - i : i;
      const int64_t size = sizes_[t], goes_on = std::min(rows, size);
      const auto run_rows = [&](const State& before, int64_t begin, int64_t end) {
        std::vector<Slot> x;
        for (const auto& steps : of_x) x.push_back(part(steps[t], begin, end, size));
        return cell(x, before, weights);
      };
      State next{none_, none_};
      if (goes_on > 0) {
        next = run_rows(both([&](Slot State::*p) { return part(state.*p, 0, goes_on, rows); }), 0,
                        goes_on);
      }
      if (size < rows) {
        ended.push_back(both([&](Slot State::*p) { return part(state.*p, size, rows, rows); }));
      }
      if (size > rows) {  // by themselves, as their state is a constant, which takes no share
        const State begun =
            run_rows(both([&](Slot State::*p) { return part(start.*p, rows, size, sizes_[0]); }),
                     rows, size);
        next = rows == 0 ? begun : both([&](Slot State::*p) {
          return cat({next.*p, begun.*p}, 0);
        });
      }
      state = next;
      rows = size;
      outputs[t] = state.h;
    }
    ended.push_back(state);
    last.push_back(both([&](Slot State::*p) {
      std::vector<Slot> parts;  // the longest sequences come first
      for (size_t i = ended.size(); i-- > 0;) parts.push_back(ended[i].*p);
      return cat(parts, 0);
    }));
    return cat(outputs, 0);
  }

  bool packed_;
  size_t first_;  // where the initial states are among the inputs; behind them come the weights
  bool has_biases_;
  int64_t layers_, directions_;
  bool batch_first_;
  std::vector<int64_t> sizes_;
  std::vector<Slot> given_, weights_;
};

bool is_cell(const Step& step) {
  static const std::set<std::string> cells = {"aten::gru_cell", "aten::lstm_cell",
                                              "aten::rnn_tanh_cell", "aten::rnn_relu_cell"};
  return cells.contains(step.operation);
}

}  // namespace

bool is_recurrent(const Step& step) {
  static const std::set<std::string> whole = {"aten::gru", "aten::lstm", "aten::rnn_tanh",
                                              "aten::rnn_relu"};
  return whole.contains(step.operation) || is_cell(step);
}

std::vector<Step> unrolled(const Step& step, const Stack& inputs, Stack& values) {
  if (is_cell(step)) return Cell(step, inputs, values)();
  return Unrolling(step, inputs, values)();
}

}  // namespace diffmask
