// DeepLIFT through conditions, choices and what else has no gradient.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "attribution/propagation/deeplift_rules.hpp"
#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

using Kind = OperatorKind;
using Tensors = std::vector<at::Tensor>;

bool is_number(const at::Tensor& tensor) {
  return at::isFloatingType(tensor.scalar_type()) || at::isComplexType(tensor.scalar_type());
}

// An input that is not the same at the reference.
struct Player {
  at::Tensor here, there;
  bool decides;

  at::Tensor delta(at::ScalarType type) const { return here.to(type) - there.to(type); }
};

class Deciding {
 public:
  Deciding(const Difference& d, const Tensors& given) : d_(d), operation_(d.operation) {
    add(operation_.varying, d.references, false);
    add(operation_.deciding, d.deciding_references, true);
    made_ = operation_.outputs;
    made_.insert(made_.end(), operation_.decided.begin(), operation_.decided.end());
    there_ = d.output_references;
    there_.insert(there_.end(), d.decided_references.begin(), d.decided_references.end());
    given_ = given;
    given_.resize(made_.size());
  }

  Tensors operator()(Products products) const {
    if (made_.size() == 1 && is_elementwise(operation_, heres(), made_[0])) return shapley();
    const Kind kind = kind_of(operation_);
    if ((kind == Kind::move || kind == Kind::linear) && !chooses()) return moved();
    return without_deciding(products);
  }

 private:
  void add(const Tensors& here, const Tensors& there, bool decides) {
    for (size_t i = 0; i < here.size(); ++i) {
      players_.push_back({here[i].detach(), there[i], decides});
      originals_.push_back(here[i]);
    }
  }

  Tensors heres() const {
    Tensors result;
    for (const Player& player : players_) result.push_back(player.here);
    return result;
  }

  // Indices or conditions among what decides, by their place in an operator that moves.
  bool chooses() const {
    static const char* const kBy[] = {"index",   "gather", "take",    "masked",
                                      "scatter", "put",    "nonzero", "repeat_interleave"};
    return !operation_.deciding.empty() &&
           std::any_of(std::begin(kBy), std::end(kBy), [this](const char* by) {
             return operation_.step.operation.find(by) != std::string::npos;
           });
  }

  // The operator with players at the input or at the reference, by bit.
  at::Tensor at(uint32_t bits) const {
    const at::NoGradGuard no_grad;
    Stack stack;
    for (const c10::IValue& input : operation_.inputs) {
      stack.push_back(map_tensors(input, [&](const at::Tensor& tensor) {
        for (size_t i = 0; i < players_.size(); ++i) {
          if (tensor.is_same(originals_[i]))
            return bits >> i & 1 ? players_[i].here : players_[i].there;
        }
        return tensor;
      }));
    }
    return operation_.call(std::move(stack))[0].to(given_[0].scalar_type());
  }

  // What each player adds, a mean over the orders in which they go from the reference to the input.
  Tensors shares() const {
    const auto count = static_cast<uint32_t>(players_.size());
    Tensors values, result(count);
    for (uint32_t bits = 0; bits < 1u << count; ++bits) values.push_back(at(bits));
    std::vector<double> factorial = {1};
    for (uint32_t i = 1; i <= count; ++i) factorial.push_back(factorial.back() * i);
    for (uint32_t i = 0; i < count; ++i) {
      for (uint32_t bits = 0; bits < 1u << count; ++bits) {
        if (bits >> i & 1) continue;
        const auto before = static_cast<uint32_t>(__builtin_popcount(bits));
        const double weight = factorial[before] * factorial[count - before - 1] / factorial[count];
        const at::Tensor part = weight * (values[bits | 1u << i] - values[bits]);
        result[i] = result[i].defined() ? result[i] + part : part;
      }
    }
    settle(result, values.back() - values.front());
    return result;
  }

  // Where a combination has no value, as log x below 0, all is the doing of what decides.
  void settle(Tensors& shares, const at::Tensor& whole) const {
    at::Tensor sum = at::zeros_like(whole);
    for (const at::Tensor& share : shares) sum = sum + share;
    const at::Tensor lacks = sum.isfinite().logical_not();
    if (!lacks.any().item<bool>()) return;
    at::Tensor rest = whole;
    for (size_t i = 0; i < shares.size(); ++i) {
      at::Tensor own = at::zeros_like(whole);
      if (players_[i].decides) {
        const at::Tensor changes = players_[i].delta(whole.scalar_type()) != 0;
        own = rest.masked_fill(changes.logical_not(), 0);
        rest = rest.masked_fill(changes, 0);
      }
      shares[i] = at::where(lacks, own, shares[i]);
    }
  }

  Tensors shapley() const {
    const at::ScalarType type = given_[0].scalar_type();
    const Tensors shares = this->shares();
    Tensors result;
    for (size_t i = 0; i < players_.size(); ++i) {
      const Player& player = players_[i];
      const at::Tensor delta = player.delta(type);
      const auto at_x = [&] { return gradient(i).to(type); };
      at::Tensor m;
      if (player.decides || is_step(operation_) || operation_.outputs.empty()) {
        m = shares[i] / delta.masked_fill(delta == 0, 1);
      } else {
        m = slope(shares[i], delta, player.here, at_x);
      }
      m = (given_[0] * m)
              .masked_fill((given_[0] == 0)
                               .logical_or(shares[i] == 0)
                               .logical_and(m.isfinite().logical_not()),
                           0);
      result.push_back(reduced(m, player.here));
    }
    return result;
  }

  // Of y_i in an input, which may be broadcast. Shape: y's.
  at::Tensor gradient(size_t i) const {
    Tensors varying;
    for (size_t k = 0; k < operation_.varying.size(); ++k) {
      const at::Tensor& x = players_[k].here;
      varying.push_back(k == i ? x.expand(made_[0].sizes()).contiguous() : x);
    }
    const Operation expanded = operation_.at(varying);
    if (expanded.outputs.empty()) return at::zeros_like(made_[0]);
    return expanded.gradients({at::ones_like(expanded.outputs[0])})[i];
  }

  // What moves conditions moves numbers likewise.
  Tensors moved() const {
    const at::AutoGradMode with_gradients(true);
    const at::ScalarType type = given_[0].scalar_type();
    const Operation all{operation_.step, operation_.inputs, originals_, operation_.repeated, {}};
    Tensors floats;
    for (const Player& player : players_) {
      floats.push_back(is_number(player.here) ? player.here : player.here.to(type));
    }
    const Operation numbers = all.at(floats);
    if (numbers.outputs.size() != made_.size()) return without_rule();
    Tensors given;
    // Outputs in their own order: those that had a gradient and those that had none.
    for (const at::Tensor& output : numbers.outputs) {
      given.push_back(given_[given.size()].to(output.scalar_type()));
    }
    if (!operation_.outputs.empty() && !operation_.decided.empty()) return without_rule();
    return numbers.gradients(given);
  }

  Tensors without_deciding(Products products) const {
    if (!operation_.decided.empty()) refuse_if_opaque();
    Tensors result(players_.size());
    if (operation_.outputs.empty() || operation_.varying.empty()) return result;
    Difference rest = d_;
    rest.operation.deciding.clear();
    rest.operation.decided.clear();
    const Tensors amounts = multipliers(
        rest, {given_.begin(), given_.begin() + static_cast<int64_t>(operation_.outputs.size())},
        products);
    std::copy(amounts.begin(), amounts.end(), result.begin());
    return result;
  }

  Tensors without_rule() const {
    refuse_if_opaque();
    return Tensors(players_.size());
  }

  // Numbers that change without a gradient; choices, such as argmax's, are left to the gap.
  void refuse_if_opaque() const {
    const Step& step = operation_.step;
    for (size_t k = operation_.outputs.size(); k < made_.size(); ++k) {
      const bool counts = made_[k].is_quantized() || is_number(made_[k]);
      const bool changes = made_[k].is_quantized() || made_[k].sizes() != there_[k].sizes() ||
                           !made_[k].equal(there_[k]);
      if (!counts || !changes) continue;
      throw Error(
          fmt::format("DeepLIFT has no rule for {}, which has no gradient", described(step)));
    }
  }

  const Difference& d_;
  const Operation& operation_;
  std::vector<Player> players_;  // varying, then deciding
  Tensors originals_, made_, there_, given_;
};

}  // namespace

std::vector<at::Tensor> deciding_multipliers(const Difference& d, const Tensors& given,
                                             Products products) {
  return Deciding(d, given)(products);
}

}  // namespace diffmask
