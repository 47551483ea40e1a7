#include "diffmask/attribution/propagation/deeplift.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attribution/propagation/deeplift_rules.hpp"
#include "attribution/propagation/program_method.hpp"
#include "attribution/propagation/user_rules.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/quadrature.hpp"

namespace diffmask {
namespace {

using Table = RuleTable<DeepLiftEntry>;

// One walk back from the output to a site, between its state and a reference of it.
class Walk {
 public:
  Walk(const ProgramPass& pass, size_t depth, const std::string& name, const at::Tensor& reference,
       const Table& table)
      : tape_(pass.tape()),
        table_(table),
        site_(pass.slots()[depth]),
        name_(name),
        references_(tape_.resume(site_, reference)) {}

  // Undefined where the output does not depend on the site.
  at::Tensor output() const {
    const c10::IValue& output = references_[static_cast<size_t>(tape_.output_slot())];
    return output.isTensor() ? output.toTensor() : at::Tensor();
  }

  // Undefined where the output does not depend on the site.
  at::Tensor multipliers(const at::Tensor& seed, DeepLiftOptions::Activation activation,
                         Products products) const {
    const at::Tensor m = walk(seed, activation, products, /*checks=*/false);
    if (!m.defined() || m.isfinite().all().item<bool>()) return m;
    return walk(seed, activation, products, /*checks=*/true);
  }

  // Whether a walk came to an operation that Products is for.
  bool has_product() const { return has_product_; }

 private:
  // With checks, NaN that nobody reads counts as 0, and what is not finite is an error.
  at::Tensor walk(const at::Tensor& seed, DeepLiftOptions::Activation activation, Products products,
                  bool checks) const {
    const auto rule = [&](const Operation& operation, const std::vector<at::Tensor>& given) {
      auto shares = this->shares(operation, given, activation, products, checks);
      for (const Tape::Share& share : shares) {
        const at::Tensor& amount = share.amount;
        if (!checks || !amount.defined() || amount.isfinite().all().item<bool>()) continue;
        throw Error(
            fmt::format("DeepLIFT: the multipliers are not finite at {} (on the way to site '{}')",
                        described(operation.step), name_));
      }
      return shares;
    };
    return tape_.walk(seed, {site_}, changes(), rule)[0];
  }

  std::vector<Tape::Share> shares(const Operation& operation, const std::vector<at::Tensor>& given,
                                  DeepLiftOptions::Activation activation, Products products,
                                  bool checks) const {
    Difference d = difference(operation);
    const DeepLiftEntry* entry = table_(operation);
    const bool asked = std::any_of(given.begin() + count(operation.outputs), given.end(),
                                   [](const at::Tensor& g) { return g.ne(0).any().item<bool>(); });
    if (!asked) {
      d.operation.decided.clear();
      d.decided_references.clear();
    }
    const bool decides = !d.operation.deciding.empty() || !d.operation.decided.empty();
    const bool reveals = activation == DeepLiftOptions::Activation::reveal_cancel && !decides &&
                         kind_of(operation) == OperatorKind::elementwise &&
                         operation.varying.size() == 1;
    if (!entry && reveals) {
      if (const auto share = reveal(d, given[0])) return {*share};
    }
    std::vector<at::Tensor> to = d.operation.varying, amounts;
    const std::vector<at::Tensor> of_outputs(given.begin(),
                                             given.begin() + count(operation.outputs));
    if (!decides && of_outputs.empty()) return {};
    if (entry) {
      amounts = by_user(*entry, d, of_outputs);
    } else if (decides) {
      if (const auto share = through_selection(d, given[0])) return {*share};
      to.insert(to.end(), d.operation.deciding.begin(), d.operation.deciding.end());
      amounts = deciding_multipliers(d, given, products);
    } else {
      require_one_shape(d);
      has_product_ = has_product_ || diffmask::has_product(operation);
      amounts = checks ? checked(d, of_outputs, products)
                       : diffmask::multipliers(d, of_outputs, products);
    }
    std::vector<Tape::Share> shares;
    for (size_t i = 0; i < amounts.size(); ++i) shares.push_back({to[i], amounts[i]});
    return shares;
  }

  static std::ptrdiff_t count(const std::vector<at::Tensor>& tensors) {
    return static_cast<std::ptrdiff_t>(tensors.size());
  }

  static std::vector<at::Tensor> checked(const Difference& d, const std::vector<at::Tensor>& given,
                                         Products products) {
    const bool unread = has_nan(d.operation.varying) || has_nan(d.references) ||
                        has_nan(d.operation.outputs) || has_nan(d.output_references);
    std::vector<at::Tensor> amounts =
        diffmask::multipliers(unread ? without_nan(d) : d, given, products);
    for (at::Tensor& amount : amounts) {
      if (amount.sizes() == given[0].sizes()) {
        amount = amount.masked_fill(given[0].eq(0).logical_and(amount.isfinite().logical_not()), 0);
      }
    }
    return amounts;
  }

  static Difference without_nan(const Difference& d) {
    std::vector<at::Tensor> references, outputs;
    for (const at::Tensor& t : d.references) references.push_back(diffmask::without_nan(t));
    for (const at::Tensor& t : d.operation.at(references).outputs) {
      outputs.push_back(diffmask::without_nan(t.detach()));
    }
    Stack inputs;
    for (const c10::IValue& input : d.reference_inputs) {
      inputs.push_back(map_tensors(input, [](const at::Tensor& tensor) {
        const bool real = tensor.defined() && at::isFloatingType(tensor.scalar_type());
        return real ? diffmask::without_nan(tensor) : tensor;
      }));
    }
    return {diffmask::without_nan(d.operation), std::move(inputs), std::move(references),
            std::move(outputs)};
  }

  // What is selected by a condition may be of another size at the reference.
  static void require_one_shape(const Difference& d) {
    const auto same = [](const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
      return std::equal(
          a.begin(), a.end(), b.begin(), b.end(),
          [](const at::Tensor& x, const at::Tensor& y) { return x.sizes() == y.sizes(); });
    };
    if (same(d.operation.varying, d.references) && same(d.operation.outputs, d.output_references) &&
        same(d.operation.deciding, d.deciding_references) &&
        same(d.operation.decided, d.decided_references)) {
      return;
    }
    throw Error(
        fmt::format("DeepLIFT has no rule for {}, of which tensors have other shapes for "
                    "the reference",
                    described(d.operation.step)));
  }

  // x[c]: c a condition of x's shape.
  static bool selects(const Operation& operation) {
    const std::string& name = operation.step.operation;
    if (name == "aten::masked_select" || name == "aten::masked_scatter") return true;
    if (!name.starts_with("aten::index")) return false;
    std::vector<at::Tensor> indices;
    append_tensors(operation.inputs.at(1), indices);
    return indices.size() == 1 && indices[0].defined() && indices[0].scalar_type() == at::kBool;
  }

  // y = f(u) elementwise, of operators some of which hold only the elements that fit a condition,
  // as x[x < 0] = 0.1 x[x < 0]: Rescale over all of it. Empty for any other.
  std::optional<Tape::Share> through_selection(const Difference& d, const at::Tensor& given) const {
    const Operation& last = d.operation;
    if (last.outputs.size() != 1 || !last.decided.empty() || last.deciding.empty() ||
        !selects(last) || is_elementwise(last, last.varying, last.outputs[0])) {
      require_one_shape(d);
      return {};
    }
    std::vector<Source> front = changing(d);
    const auto found = [&] {
      return front.size() == 1 && front[0].tensor.requires_grad() &&
             front[0].tensor.sizes() == last.outputs[0].sizes();
    };
    while (!found() && step_back(front)) {
    }
    if (!found()) {
      require_one_shape(d);
      return {};
    }
    const at::Tensor du = front[0].tensor.detach() - front[0].reference;
    return Tape::Share{front[0].tensor, given * d.output_delta() / du.masked_fill(du == 0, 1)};
  }

  struct Source {
    at::Tensor tensor, reference;
  };

  // The inputs that are not the same for the reference.
  static std::vector<Source> changing(const Difference& d) {
    std::vector<Source> result;
    const auto add = [&](const std::vector<at::Tensor>& tensors,
                         const std::vector<at::Tensor>& references) {
      for (size_t i = 0; i < tensors.size(); ++i) {
        if (!is_same(tensors[i], references[i])) result.push_back({tensors[i], references[i]});
      }
    };
    add(d.operation.varying, d.references);
    add(d.operation.deciding, d.deciding_references);
    return result;
  }

  // Puts what the latest of these tensors is made of in its place; false where it is not made
  // element by element.
  bool step_back(std::vector<Source>& front) const {
    std::optional<size_t> taken;
    const Step* latest = nullptr;
    for (size_t i = 0; i < front.size(); ++i) {
      const auto maker = tape_.maker(front[i].tensor, changes());
      if (!maker || (latest && std::less<>()(&maker->step, latest))) continue;
      latest = &maker->step;
      taken = i;
    }
    if (!taken) return false;
    const Difference d = difference(*tape_.maker(front[*taken].tensor, changes()));
    const std::vector<Source> before = changing(d);
    std::vector<at::Tensor> tensors;
    for (const Source& source : before) tensors.push_back(source.tensor);
    const bool by_element =
        selects(d.operation) || is_elementwise(d.operation, tensors, front[*taken].tensor);
    if (before.empty() || !by_element) return false;
    front.erase(front.begin() + static_cast<std::ptrdiff_t>(*taken));
    for (const Source& source : before) {
      const bool known = std::any_of(front.begin(), front.end(), [&](const Source& other) {
        return other.tensor.is_same(source.tensor);
      });
      if (!known) front.push_back(source);
    }
    return true;
  }

  static bool is_same(const at::Tensor& a, const at::Tensor& b) {
    return !a.is_quantized() && a.sizes() == b.sizes() && a.equal(b);
  }

  Tape::Filter changes() const {
    return [this](Slot slot) { return !references_[static_cast<size_t>(slot)].isNone(); };
  }

  const c10::IValue& reference(Slot slot) const {
    const c10::IValue& changed = references_[static_cast<size_t>(slot)];
    return changed.isNone() ? tape_.value(slot) : changed;
  }

  Difference difference(const Operation& operation) const {
    Difference d{operation, {}, {}, {}};
    d.operation.deciding.clear();
    d.operation.decided.clear();
    std::vector<at::Tensor> here, there, made, made_there;
    for (const Slot slot : operation.step.inputs) {
      d.reference_inputs.push_back(reference(slot));
      append_tensors(tape_.value(slot), here);
      append_tensors(reference(slot), there);
    }
    const auto reference_of = [&](const at::Tensor& tensor) {
      const auto at = std::find_if(here.begin(), here.end(),
                                   [&](const at::Tensor& t) { return t.is_same(tensor); });
      return there.at(static_cast<size_t>(at - here.begin())).detach();
    };
    for (const at::Tensor& varying : operation.varying) {
      d.references.push_back(reference_of(varying));
    }
    for (const at::Tensor& deciding : operation.deciding) {
      const at::Tensor other = reference_of(deciding);
      if (is_same(deciding, other)) continue;
      d.operation.deciding.push_back(deciding);
      d.deciding_references.push_back(other);
    }
    for (const Slot slot : operation.step.outputs) {
      append_tensors(tape_.value(slot), made);
      append_tensors(reference(slot), made_there);
    }
    bool decides = false;
    for (size_t k = 0; k < operation.read.size(); ++k) {
      const at::Tensor& leaf = operation.read[k];
      const auto at = std::find_if(made.begin(), made.end(),
                                   [&](const at::Tensor& t) { return t.is_same(leaf); });
      const at::Tensor other = made_there.at(static_cast<size_t>(at - made.begin()));
      const bool has_gradient = k < operation.outputs.size();
      (has_gradient ? d.output_references : d.decided_references).push_back(other);
      decides = decides || (!has_gradient && !is_same(leaf, other));
    }
    if (decides) {
      d.operation.decided = operation.decided;
    } else {
      d.decided_references.clear();
    }
    return d;
  }

  std::vector<at::Tensor> by_user(const DeepLiftEntry& entry, const Difference& d,
                                  const std::vector<at::Tensor>& given) const {
    OperatorCall call = call_of(d.operation, given);
    call.reference_inputs = d.references;
    call.reference_outputs = d.output_references;
    return apply(entry.rule, entry.operators, call);
  }

  // The share of u where x = w u + b, with nothing but moves between; empty otherwise, and where
  // the user has a rule for one of these.
  std::optional<Tape::Share> reveal(const Difference& d, const at::Tensor& given) const {
    std::vector<Operation> moves;
    at::Tensor tensor = d.operation.varying[0];
    const at::Tensor& site = tape_.value(site_).toTensor();
    while (!tensor.is_same(site)) {
      const auto maker = tape_.maker(tensor, changes());
      if (!maker || maker->varying.size() != 1 || maker->repeated || maker->outputs.size() != 1 ||
          table_(*maker)) {
        break;
      }
      if (Affine::of(*maker)) {
        const std::vector<Operation> upward(moves.rbegin(), moves.rend());
        return Tape::Share{maker->varying[0], reveal_cancel(difference(*maker), upward, d, given)};
      }
      if (kind_of(*maker) != OperatorKind::move) break;
      tensor = maker->varying[0];
      moves.push_back(*maker);
    }
    return {};
  }

  const Tape& tape_;
  const Table& table_;
  Slot site_;
  std::string name_;
  Stack references_;
  mutable bool has_product_ = false;
};

// The target's own multipliers: its mean gradient between the two outputs, exact where it is
// linear.
at::Tensor target_multipliers(const Target& target, const at::Tensor& output,
                              const at::Tensor& reference) {
  const auto [nodes, weights] = gauss_legendre(8);
  at::Tensor sum = at::zeros_like(output);
  for (size_t i = 0; i < nodes.size(); ++i) {
    const at::Tensor between = at::lerp(reference, output, nodes[i]);
    sum = sum + weights[i] * target_gradient(target, between, output);
  }
  return sum;
}

// Where a target's difference is a - b; 0 where both are the same infinity.
at::Tensor difference_of(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).masked_fill(a == b, 0);
}

struct Scores {
  at::Tensor features, gap;  // undefined: the output does not depend on the site
};

Scores scores_of(const Walk& walk, const ProgramPass& pass, size_t depth, const Target& target,
                 const at::Tensor& delta, DeepLiftOptions::Activation activation) {
  const at::Tensor output = pass.output(), there = pass.arranged(walk.output());
  const at::Tensor seed = target_multipliers(target, output, there).reshape_as(walk.output());
  const at::Tensor change =
      difference_of(target::value(target, output, output), target::value(target, there, output));
  const auto scores = [&](Products products) -> Scores {
    const at::Tensor m = walk.multipliers(seed, activation, products);
    if (!m.defined()) return {};
    const at::Tensor features = m * delta;
    return {features, change - pass.example_sums(depth, features)};
  };
  const Scores usual = scores(Products::symmetric);
  if (!usual.features.defined() || !walk.has_product()) return usual;
  // The symmetric rule's scores may be so large, and cancel so nearly, that rounding is all that is
  // left of their sum.
  const double digits = output.scalar_type() == at::kDouble ? 1e-16 : 1e-7;
  const at::Tensor rounding = digits * pass.example_sums(depth, usual.features.abs());
  const at::Tensor size = change.abs();
  const at::Tensor missed =
      (usual.gap.abs() > 1e-3 * size).logical_or(rounding > 1e-2 * size).logical_and(size > 0);
  if (!missed.any().item<bool>()) return usual;
  const Scores bounded = scores(Products::bounded);
  const at::Tensor better = missed.logical_and(bounded.gap.abs() <= usual.gap.abs());
  return {pass.choose(depth, better, bounded.features, usual.features),
          at::where(better, bounded.gap, usual.gap)};
}

}  // namespace

DeepLift::DeepLift(std::shared_ptr<const FrozenModel> model, AttributionOptions options,
                   DeepLiftOptions deeplift)
    : model_(std::move(model)),
      options_(options.resolved(model_.get())),
      deeplift_(std::move(deeplift)) {
  if (deeplift_.references.empty()) deeplift_.references = {options_.fill};
  for (const Fill& fill : deeplift_.references) {
    require(fill != nullptr, "references", "functions", "none");
  }
  for (const DeepLiftEntry& entry : deeplift_.rules) {
    require(!entry.operators.empty(), "operators", "named by each of the rules", "none");
    require(entry.rule != nullptr, fmt::format("the rule of '{}'", entry.operators), "a function",
            "none");
  }
}

// What the fills give for a whole batch, cut to the part that is explained.
class DeepLift::References {
 public:
  References(const DeepLift& method, const Batch& batch) : method_(method), batch_(batch) {}

  // Of each fill, at a site whose state over the part is known. Shape: the state's.
  std::vector<at::Tensor> of(size_t depth, const at::Tensor& state, int64_t begin) {
    const Positions& positions = method_.options_.positions_of(depth);
    const int64_t size = positions.examples(state);
    if (size == batch_.size()) return draw(depth, state);
    if (drawn_.empty()) {
      const auto& sites = method_.options_.sites;
      const Recording whole = method_.model_->record(batch_.inputs, sites);
      for (size_t i = 0; i < sites.size(); ++i) drawn_.push_back(draw(i, whole.state(sites[i])));
    }
    std::vector<at::Tensor> part;
    for (const at::Tensor& reference : drawn_[depth]) {
      part.push_back(reference.narrow(0, begin, size).to(state.scalar_type()));
    }
    return part;
  }

 private:
  std::vector<at::Tensor> draw(size_t depth, const at::Tensor& state) const {
    std::vector<at::Tensor> references;
    const Positions& positions = method_.options_.positions_of(depth);
    for (const Fill& fill : method_.deeplift_.references) {
      const at::Tensor filled =
          fill::value(fill, method_.options_.sites[depth], positions.arrange(state));
      references.push_back(positions.restore(filled).contiguous());
    }
    return references;
  }

  const DeepLift& method_;
  const Batch& batch_;
  std::vector<std::vector<at::Tensor>> drawn_;  // a site's, of each fill
};

Attribution DeepLift::attribute(const Batch& given) const {
  given.validate();
  const at::NoGradGuard no_grad;
  const Batch batch = given.to(model_->device());
  References references(*this, batch);
  return in_parts(options_, batch, [&](const Batch& part, int64_t begin) {
    return explain(part, begin, references);
  });
}

Attribution DeepLift::explain(const Batch& batch, int64_t begin, References& references) const {
  const ProgramPass pass(*model_, options_, batch, /*all_sites_are_roots=*/false,
                         Explained::differences);
  const at::Tensor output = pass.output();
  const at::Tensor value = target::value(options_.target, output, output);
  const auto count = static_cast<int64_t>(deeplift_.references.size());
  const Table table(deeplift_.rules);
  std::vector<at::Tensor> features, gaps;
  int64_t passes = batch.size();
  for (size_t depth = 0; depth < options_.sites.size(); ++depth) {
    at::Tensor sum, gap = at::zeros_like(value);
    const at::Tensor state = pass.state(depth);
    for (const at::Tensor& reference : references.of(depth, state, begin)) {
      const Walk walk(pass, depth, options_.sites[depth], reference, table);
      if (!walk.output().defined()) break;
      const Scores scores =
          scores_of(walk, pass, depth, options_.target, state - reference, deeplift_.activation);
      if (!scores.features.defined()) break;
      sum = sum.defined() ? sum + scores.features : scores.features;
      gap += scores.gap;
      passes += batch.size();
    }
    features.push_back(sum.defined() ? sum / count : sum);
    gaps.push_back(gap / count);
  }
  Attribution result = pass.result(std::move(features), passes);
  result.gap = at::stack(gaps, 1);
  return result;
}

}  // namespace diffmask
