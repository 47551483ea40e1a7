#include "diffmask/attribution/propagation/lrp.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <fmt/format.h>

#include <algorithm>
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

using LrpTable = RuleTable<LrpEntry>;

bool needs_weights(const LrpEntry* entry) {
  return !entry ||
         (entry->rule.kind != LrpRule::Kind::custom &&
          entry->rule.kind != LrpRule::Kind::identity && entry->rule.kind != LrpRule::Kind::stop);
}

std::vector<Tape::Share> shares(const Operation& operation, const std::vector<at::Tensor>& given,
                                const LrpTable& table, const LrpOptions& options,
                                const Around& around) {
  const LrpEntry* entry = table(operation);
  if (!entry && operation.varying.size() == 1) {
    const Origin product = origin_of(operation.varying[0], around.makers);
    const auto affine = Affine::of_sum(operation, product);
    const LrpEntry* own = affine ? table(*product.operation) : nullptr;
    if (affine && needs_weights(own)) {
      const at::Tensor y = operation.outputs[0].detach();
      return {{affine->x(), relevance(*affine, y, given[0], own ? &own->rule : nullptr, options)}};
    }
  }
  std::vector<at::Tensor> amounts;
  if (entry && entry->rule.kind == LrpRule::Kind::custom) {
    const std::string pattern = entry->operators.empty() ? "weights" : entry->operators;
    amounts = apply(entry->rule.function, pattern, call_of(operation, given));
  } else {
    amounts = relevance(operation, given, entry ? &entry->rule : nullptr, options, around);
  }
  std::vector<Tape::Share> shares;
  for (size_t i = 0; i < amounts.size(); ++i) shares.push_back({operation.varying[i], amounts[i]});
  return shares;
}

// The shares of a walk that came to what is not finite: NaN that nobody reads counts as 0, and the
// operator of any other is named.
std::vector<Tape::Share> checked_shares(const Operation& operation,
                                        const std::vector<at::Tensor>& given, const LrpTable& table,
                                        const LrpOptions& options, const Around& around) {
  std::vector<Tape::Share> result;
  if (has_nan(operation.varying) || has_nan(operation.outputs)) {
    const Operation cleaned = without_nan(operation);
    result = shares(cleaned, given, table, options, around);
    for (size_t i = 0; i < result.size(); ++i) result[i].to = operation.varying[i];
  } else {
    result = shares(operation, given, table, options, around);
  }
  for (const Tape::Share& share : result) {
    if (!share.amount.defined() || share.amount.isfinite().all().item<bool>()) continue;
    throw Error(fmt::format("LRP: the relevance is not finite at {}", described(operation.step)));
  }
  return result;
}

bool are_finite(const std::vector<at::Tensor>& tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const at::Tensor& tensor) {
    return !tensor.defined() || tensor.isfinite().all().item<bool>();
  });
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
  const at::Tensor slope = target_gradient(options_.target, output, output);
  const at::Tensor start = (output * slope).masked_fill(slope == 0, 0);  // also of -inf
  const LrpTable table(lrp_.rules);
  const Tape& tape = pass.tape();
  const Around around{[&](const at::Tensor& tensor) { return tape.maker(tensor, {}); },
                      [&](const Operation& operation) { return table(operation) != nullptr; }};
  const auto walk = [&](const auto& shares_of) {
    return tape.walk(start.reshape_as(tape.output()), pass.slots(), {},
                     [&](const Operation& operation, const auto& given) {
                       return shares_of(operation, given, table, lrp_, around);
                     });
  };
  std::vector<at::Tensor> features = walk(shares);
  if (!are_finite(features)) features = walk(checked_shares);
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
