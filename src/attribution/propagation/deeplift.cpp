#include "diffmask/attribution/propagation/deeplift.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

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
  Walk(const ProgramPass& pass, size_t depth, const at::Tensor& reference, const Table& table)
      : tape_(pass.tape()),
        table_(table),
        site_(pass.slots()[depth]),
        references_(tape_.resume(site_, reference)) {}

  // Undefined where the output does not depend on the site.
  at::Tensor output() const {
    const c10::IValue& output = references_[static_cast<size_t>(tape_.output_slot())];
    return output.isTensor() ? output.toTensor() : at::Tensor();
  }

  at::Tensor multipliers(const at::Tensor& seed, DeepLiftOptions::Activation activation) const {
    const auto rule = [&](const Operation& operation, const std::vector<at::Tensor>& given) {
      const Difference d = difference(operation);
      const DeepLiftEntry* entry = table_(operation);
      const bool reveals = activation == DeepLiftOptions::Activation::reveal_cancel &&
                           kind_of(operation) == OperatorKind::elementwise &&
                           operation.varying.size() == 1;
      if (!entry && reveals) {
        if (const auto share = reveal(d, given[0])) return std::vector<Tape::Share>{*share};
      }
      const auto amounts = entry ? by_user(*entry, d, given) : diffmask::multipliers(d, given);
      std::vector<Tape::Share> shares;
      for (size_t i = 0; i < amounts.size(); ++i) {
        shares.push_back({operation.varying[i], amounts[i]});
      }
      return shares;
    };
    return tape_.walk(seed, {site_}, changes(), rule)[0];
  }

 private:
  Tape::Filter changes() const {
    return [this](Slot slot) { return !references_[static_cast<size_t>(slot)].isNone(); };
  }

  const c10::IValue& reference(Slot slot) const {
    const c10::IValue& changed = references_[static_cast<size_t>(slot)];
    return changed.isNone() ? tape_.value(slot) : changed;
  }

  Difference difference(const Operation& operation) const {
    Difference d{operation, {}, {}, {}};
    std::vector<at::Tensor> here, there, made, made_there;
    for (const Slot slot : operation.step.inputs) {
      d.reference_inputs.push_back(reference(slot));
      append_tensors(tape_.value(slot), here);
      append_tensors(reference(slot), there);
    }
    for (const at::Tensor& varying : operation.varying) {
      const auto at = std::find_if(here.begin(), here.end(),
                                   [&](const at::Tensor& t) { return t.is_same(varying); });
      d.references.push_back(there.at(static_cast<size_t>(at - here.begin())).detach());
    }
    for (const Slot slot : operation.step.outputs) {
      append_tensors(tape_.value(slot), made);
      append_tensors(reference(slot), made_there);
    }
    for (size_t k = 0; k < made.size(); ++k) {
      if (made[k].requires_grad()) d.output_references.push_back(made_there.at(k));
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
  Stack references_;
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
      part.push_back(reference.narrow(0, begin, size));
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
  const ProgramPass pass(*model_, options_, batch, /*all_sites_are_roots=*/false);
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
      const Walk walk(pass, depth, reference, table);
      if (!walk.output().defined()) break;
      const at::Tensor there = pass.arranged(walk.output());
      const at::Tensor seed = target_multipliers(options_.target, output, there);
      const at::Tensor m = walk.multipliers(seed.reshape_as(walk.output()), deeplift_.activation);
      if (!m.defined()) break;
      const at::Tensor scores = m * (state - reference);
      sum = sum.defined() ? sum + scores : scores;
      gap +=
          value - target::value(options_.target, there, output) - pass.example_sums(depth, scores);
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
