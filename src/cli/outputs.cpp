#include "cli/outputs.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <regex>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/arranged.hpp"

namespace diffmask::cli {
namespace {

std::vector<std::string> kind_names() {
  std::vector<std::string> names;
  for (const OutputKind& kind : output_kinds()) names.push_back(kind.name);
  return names;
}

bool is_named(const OutputOptions& options) { return !options.kind.empty(); }

const OutputKind& kind_of(const at::Tensor& output, const OutputOptions& options) {
  const OutputKind& kind = is_named(options) ? output_kind(options.kind) : told_kind(output);
  kind.check(output);
  return kind;
}

// Target and target_name.
Explained target_of(const at::Tensor& output, const OutputOptions& options,
                    const std::vector<int64_t>& index) {
  if (options.kind == "next_token" && index.size() == 1) {
    return {target::element({-1, index[0]}), options.target};
  }
  if (!index.empty()) return {target::element(index), options.target};
  if (is_named(options)) return {kind_of(output, options).target, options.kind};
  if (is_single(output)) return {target::scalar, "the only number"};
  require(output.dim() == 2, "--target",
          fmt::format("a position and a class, such as '3,2', or --output-kind one of tokens, "
                      "next_token, span, for an output of shape {}",
                      shape_string(output.sizes())),
          "none");
  return {target::predicted, "predicted"};
}

// Whether the examples in another order give their outputs in that order.
bool chooses_examples(const Program& model, const Recording& recording, const Batch& batch) {
  const at::Tensor& output = recording.output();
  const at::Tensor order = at::arange(batch.size(), at::kLong).roll(1).to(output.device());
  try {
    const Inputs inputs = batch.select(order).inputs;
    return same_output(model.record(inputs, {model.site_names().front()}).output(),
                       output.index_select(0, order));
  } catch (const std::exception&) {
    return false;  // not inputs of the model
  }
}

// Fails now, and not after the work, where the target is not one of this output.
void check_target(const Target& target, const at::Tensor& output) {
  target::value(target, output, output);
}

}  // namespace

void OutputOptions::add_to(CLI::App& command) {
  command.add_option(
      "--target", target,
      "What to explain: a class '1', a position and a class '3,2', or an output of several by its "
      "name, alone or before these, 'logits:3,2'. By default the predicted class, or an output's "
      "only number. Methods that minimise a divergence (bottlenecks, noise_tolerance, infomask, "
      "diffmask, reinforce) explain the whole output");
  command
      .add_option("--output-kind", kind,
                  "What the output is, where its shape does not tell: it decides the target, the "
                  "divergence and what the same decision is")
      ->check(CLI::IsMember(kind_names()));
  command.add_option(
      "--layout", layouts,
      "Axes of the states that have as many: B examples, F or C features, other letters positions, "
      "such as TBF (time first), BCL (a signal), NF (the nodes of one graph), '(B4)TF' (4 rows for "
      "each example). By default found out");
}

ModelOptions OutputOptions::chosen(ModelOptions model) const {
  const std::string named = Number::parse(target).output;
  if (named.empty()) return model;
  require(model.output.empty() || model.output == named, "--target",
          fmt::format("of the output that --output names, '{}'", model.output),
          fmt::format("'{}'", target));
  model.output = named;
  return model;
}

Number Number::parse(const std::string& target) {
  static const std::regex numbers(R"(-?\d{1,9}([,:]-?\d{1,9})*)");
  Number number;
  if (target.empty()) return number;
  std::string rest = target;
  if (!std::regex_match(rest, numbers)) {
    const size_t colon = target.find(':');
    const std::string name = target.substr(0, colon);
    rest = colon == target.npos ? "" : target.substr(colon + 1);
    const unsigned char begin = name.empty() ? '0' : static_cast<unsigned char>(name[0]);
    const bool is_name = begin == '[' || begin == '_' || begin >= 128 || std::isalpha(begin) != 0;
    require(is_name && (colon == target.npos || std::regex_match(rest, numbers)), "--target",
            "a class ('1'), a position and a class ('3,2'), or an output's name, alone or before "
            "these ('logits', 'logits:3,2')",
            fmt::format("'{}'", target));
    number.output = name[0] == '[' ? name : fmt::format("[{}]", name);
  }
  std::replace(rest.begin(), rest.end(), ':', ',');
  for (size_t begin = 0; begin < rest.size();) {
    const size_t end = std::min(rest.find(',', begin), rest.size());
    number.index.push_back(std::stoll(rest.substr(begin, end - begin)));
    begin = end + 1;
  }
  return number;
}

Explained explained(const at::Tensor& output, const OutputOptions& options, const Method& method) {
  const std::vector<int64_t> index = Number::parse(options.target).index;
  require(!method.whole_output || index.empty(), "--target",
          fmt::format("left out, or an output's name alone: {} minimises a divergence of the whole "
                      "output",
                      method.name),
          fmt::format("'{}'", options.target));
  Explained result;
  result.target_name = "the whole output";
  if (!method.whole_output) {
    result = target_of(output, options, index);
    check_target(result.target, output);
  }
  if (!is_named(options) && !method.whole_output && !method.needs_decision) return result;
  const OutputKind& kind = kind_of(output, options);
  require(!method.needs_decision || kind.same_decision != nullptr, "--method",
          fmt::format("one that needs no decision, for an output of kind '{}', which has none",
                      kind.name),
          method.name);
  result.divergence = kind.divergence;
  result.criterion = kind.same_decision;
  result.log_probability = kind.log_probability;
  return result;
}

Explained compared(const at::Tensor& output, const OutputOptions& options) {
  const OutputKind& kind = kind_of(output, options);
  const std::vector<int64_t> index = Number::parse(options.target).index;
  Explained result =
      index.empty() ? Explained{kind.target, kind.name} : target_of(output, options, index);
  result.divergence = kind.divergence;
  result.criterion = kind.same_decision;
  result.log_probability = kind.log_probability;
  check_target(result.target, output);
  return result;
}

std::vector<int64_t> axes_of(const Program& model, const Recording& recording, int64_t examples) {
  const Inputs& inputs = recording.inputs();
  const bool one = examples < 2 || recording.output().size(0) != examples;
  // An input with two axes as long as the batch may have its examples along the first, the second or
  // neither: every combination is tried, the first axis of all of them first.
  Batch batch{inputs, at::ones({examples, 1}, recording.output().options().dtype(at::kBool))};
  std::vector<size_t> twice;
  for (const at::Tensor& input : inputs) {
    const bool first = input.dim() > 0 && input.size(0) == examples;
    const bool second = input.dim() > 1 && input.size(1) == examples;
    if (first && second) twice.push_back(batch.axes.size());
    batch.axes.push_back(first ? 0 : second ? 1 : Batch::kShared);
  }
  if (one) return batch.axes;
  constexpr size_t kMostTwice = 4;
  twice.resize(std::min(twice.size(), kMostTwice));
  int64_t combinations = 1;
  for (size_t i = 0; i < twice.size(); ++i) combinations *= 3;
  for (int64_t number = 0; number < combinations; ++number) {
    int64_t rest = number;
    for (const size_t input : twice) {
      constexpr int64_t kAxes[] = {0, Batch::kShared, 1};
      batch.axes[input] = kAxes[rest % 3];
      rest /= 3;
    }
    if (chooses_examples(model, recording, batch)) return batch.axes;
  }
  return std::vector<int64_t>(inputs.size(), Batch::kWhole);
}

}  // namespace diffmask::cli
