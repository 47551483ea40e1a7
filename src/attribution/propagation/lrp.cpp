#include "diffmask/attribution/propagation/lrp.hpp"

#include <ATen/ATen.h>

#include <cstdint>
#include <regex>
#include <utility>

#include "attribution/propagation/lrp_rules.hpp"
#include "attribution/propagation/program_method.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/glob.hpp"

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
  if (rule.kind != LrpRule::Kind::z_box) return;
  require(rule.low.defined() && rule.high.defined(), "low and high", "defined",
          "undefined tensors");
  require(rule.low.le(rule.high).all().item<bool>(), "low", "<= high", "more");
}

// The table's rule for an operation, null where none fits.
class Table {
 public:
  explicit Table(const std::vector<LrpEntry>& entries) {
    for (const LrpEntry& entry : entries) {
      rows_.push_back({std::regex(glob_expression(entry.modules)),
                       std::regex(glob_expression(entry.operators)), &entry});
    }
  }

  const LrpRule* operator()(const Operation& operation) const {
    const Step& step = operation.step;
    for (const Row& row : rows_) {
      if (!std::regex_match(step.module, row.modules)) continue;
      const bool fits = row.entry->operators.empty()
                            ? Affine::of(operation).has_value()
                            : std::regex_match(step.operation, row.operators);
      if (fits) return &row.entry->rule;
    }
    return nullptr;
  }

 private:
  struct Row {
    std::regex modules, operators;
    const LrpEntry* entry;
  };
  std::vector<Row> rows_;
};

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
  const at::Tensor start = output * target_gradient(options_.target, output, output);
  const Table table(lrp_.rules);
  const auto rule = [&](const Operation& operation, const std::vector<at::Tensor>& relevances) {
    std::vector<Tape::Share> shares;
    const auto amounts = relevance(operation, relevances, table(operation), lrp_);
    for (size_t i = 0; i < amounts.size(); ++i)
      shares.push_back({operation.varying[i], amounts[i]});
    return shares;
  };
  const std::vector<at::Tensor> features = pass.tape().walk(start, pass.slots(), {}, rule);
  Attribution result = pass.result(features, batch.size());
  const at::Tensor whole = row_sums(start);
  std::vector<at::Tensor> gaps;
  for (const at::Tensor& feature : result.features) {
    gaps.push_back((whole - row_sums(feature)) / whole.abs());
  }
  result.gap = at::stack(gaps, 1);
  return result;
}

}  // namespace diffmask
