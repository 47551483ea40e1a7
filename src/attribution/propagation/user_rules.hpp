#pragma once
/// \file
/// How entries of LRP's and DeepLIFT's tables are found, and users' rules run; private.

#include <ATen/ATen.h>

#include <regex>
#include <string>
#include <vector>

#include "attribution/propagation/operators.hpp"
#include "diffmask/attribution/propagation/operator_rule.hpp"
#include "diffmask/core/glob.hpp"
#include "program/tape.hpp"

namespace diffmask {

/// The first entry of a table that fits an operation, by the patterns `modules` and `operators`.
/// An entry without operators is for those with weights. Sites are no operators.
template <typename Entry>
class RuleTable {
 public:
  /// The entries have to outlive this.
  explicit RuleTable(const std::vector<Entry>& entries) {
    for (const Entry& entry : entries) {
      rows_.push_back({std::regex(glob_expression(entry.modules)),
                       std::regex(glob_expression(entry.operators)), &entry});
    }
  }

  /// Null where none fits.
  const Entry* operator()(const Operation& operation) const {
    const Step& step = operation.step;
    if (step.operation == kSite) return nullptr;
    for (const Row& row : rows_) {
      if (!std::regex_match(step.module, row.modules)) continue;
      const bool fits = row.entry->operators.empty()
                            ? Affine::of(operation).has_value()
                            : std::regex_match(step.operation, row.operators);
      if (fits) return row.entry;
    }
    return nullptr;
  }

 private:
  struct Row {
    std::regex modules, operators;
    const Entry* entry;
  };
  std::vector<Row> rows_;
};

/// What a user's rule sees of an operation, without references.
OperatorCall call_of(const Operation& operation, const std::vector<at::Tensor>& given);

/// What a user's rule gives each varying tensor of the operation, checked. `pattern`: of the entry
/// that the rule stands in, for errors.
std::vector<at::Tensor> apply(const OperatorRule& rule, const std::string& pattern,
                              const OperatorCall& call);

}  // namespace diffmask
