#include "diffmask/attribution/propagation/lrp.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "attribution/propagation/lrp_rules.hpp"
#include "attribution/propagation/program_method.hpp"
#include "attribution/propagation/user_rules.hpp"
#include "diffmask/core/error.hpp"

namespace diffmask {
namespace lrp {

LrpRule epsilon(double epsilon) { return {.kind = LrpRule::Kind::epsilon, .epsilon = epsilon}; }
LrpRule gamma(double gamma) { return {.kind = LrpRule::Kind::gamma, .gamma = gamma}; }
LrpRule alpha_beta(double beta) { return {.kind = LrpRule::Kind::alpha_beta, .beta = beta}; }
LrpRule z_box(at::Tensor low, at::Tensor high) {
  return {.kind = LrpRule::Kind::z_box, .low = std::move(low), .high = std::move(high)};
}
LrpRule flat() { return {.kind = LrpRule::Kind::flat}; }
LrpRule identity() { return {.kind = LrpRule::Kind::identity}; }
LrpRule stop() { return {.kind = LrpRule::Kind::stop}; }
LrpRule custom(OperatorRule rule) {
  return {.kind = LrpRule::Kind::custom, .function = std::move(rule)};
}

}  // namespace lrp

namespace {

void validate(const LrpEntry& entry) {
  const LrpRule& rule = entry.rule;
  require(rule.epsilon > 0, "epsilon", "> 0", rule.epsilon);
  require(rule.gamma >= 0, "gamma", ">= 0", rule.gamma);
  require(rule.beta >= 0, "beta", ">= 0", rule.beta);
  const bool for_weights = rule.kind != LrpRule::Kind::identity && rule.kind != LrpRule::Kind::stop;
  require(for_weights || !entry.operators.empty(), "operators",
          "named by an entry with the rules identity or stop", "none");
  require(rule.kind != LrpRule::Kind::custom || rule.function != nullptr, "function",
          "a function where the rule is custom", "none");
  if (rule.kind != LrpRule::Kind::z_box) return;
  require(rule.low.defined() && rule.high.defined(), "low and high", "defined",
          "undefined tensors");
  require(rule.low.le(rule.high).all().item<bool>(), "low", "<= high", "more");
}

std::vector<at::Tensor> relevance_by(const LrpEntry* entry, const Operation& operation,
                                     const std::vector<at::Tensor>& given,
                                     const LrpOptions& options) {
  if (!entry) return relevance(operation, given, nullptr, options);
  if (entry->rule.kind != LrpRule::Kind::custom) {
    return relevance(operation, given, &entry->rule, options);
  }
  const std::string pattern = entry->operators.empty() ? "weights" : entry->operators;
  return apply(entry->rule.function, pattern, call_of(operation, given));
}

}  // namespace

Lrp::Lrp(std::shared_ptr<const FrozenModel> model, AttributionOptions options, LrpOptions lrp)
    : model_(std::move(model)), options_(options.resolved(model_.get())), lrp_(std::move(lrp)) {
  require(lrp_.epsilon > 0, "epsilon", "> 0", lrp_.epsilon);
  for (const LrpEntry& entry : lrp_.rules) validate(entry);
}

Attribution Lrp::attribute(const Batch& given) const {
  given.validate();
  const at::NoGradGuard no_grad;
  return in_parts(options_, given.to(model_->device()),
                  [this](const Batch& part, int64_t) { return explain(part); });
}

Attribution Lrp::explain(const Batch& batch) const {
  const ProgramPass pass(*model_, options_, batch, /*all_sites_are_roots=*/true);
  const at::Tensor output = pass.output();
  const at::Tensor gradient = target_gradient(options_.target, output, output);
  const at::Tensor start = (output * gradient).masked_fill(gradient.eq(0), 0);  // logits of -inf
  const RuleTable table(lrp_.rules);
  const auto rule = [&](const Operation& operation, const std::vector<at::Tensor>& relevances) {
    std::vector<Tape::Share> shares;
    const auto amounts = relevance_by(table(operation), operation, relevances, lrp_);
    for (size_t i = 0; i < amounts.size(); ++i) {
      shares.push_back({operation.varying[i], amounts[i]});
    }
    return shares;
  };
  const std::vector<at::Tensor> features =
      pass.tape().walk(start.reshape_as(pass.tape().output()), pass.slots(), {}, rule);
  Attribution result = pass.result(features, batch.size());
  const at::Tensor whole = row_sums(start);
  const at::Tensor unit = whole.abs().masked_fill(whole.eq(0), 1);
  std::vector<at::Tensor> gaps;
  for (size_t depth = 0; depth < result.features.size(); ++depth) {
    gaps.push_back((whole - pass.example_sums(depth, result.features[depth])) / unit);
  }
  result.gap = at::stack(gaps, 1);
  return result;
}

}  // namespace diffmask
