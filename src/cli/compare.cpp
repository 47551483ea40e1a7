#include "cli/compare.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/attribute.hpp"
#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/report/comparison_report.hpp"

namespace diffmask::cli {
namespace {

// Rows of one batch.
class Rows : public Dataset {
 public:
  explicit Rows(Batch all) : all_(std::move(all)) {}

  int64_t size() const override { return all_.size(); }
  int64_t length(int64_t) const override { return all_.mask.size(1); }
  Batch batch(const std::vector<int64_t>& examples) const override {
    const at::Tensor rows = at::tensor(examples, at::kLong);
    Batch batch{{}, all_.mask.index_select(0, rows), rows, {}};
    for (const at::Tensor& input : all_.inputs) {
      batch.inputs.push_back(input.index_select(0, rows));
    }
    return batch;
  }

 private:
  Batch all_;
};

// The names asked for (none: all), and the controls.
std::vector<std::string> with_controls(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  std::vector<std::string> all = {"uniform", "random"};
  for (const std::string& name : names) {
    if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
  }
  return all;
}

}  // namespace

Comparison compare(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                   const Safetensors& file, const std::vector<std::string>& sites,
                   const CompareOptions& options) {
  std::vector<ComparedMethod> explainers;
  for (const std::string& path : options.explainers) {
    auto loaded = std::make_shared<DiffMask>(DiffMask::load(path, model));
    const std::string name =
        fmt::format("diffmask ({})", std::filesystem::path(path).stem().string());
    explainers.push_back(compared_explainer(name, model, std::move(loaded)));
  }
  const MethodSettings settings{.steps = options.steps,
                                .beam = options.beam,
                                .max_passes = options.budget,
                                .random_passes = options.budget};
  const Recording recording = model->record(inputs, sites);
  Comparison all;
  for (const std::string& site : sites) {
    const at::Tensor& state = recording.state(site);
    AttributionOptions common;
    common.positions = {positions_of(state)};
    common.target = target::predicted_logit;
    common.fill = fill_of(options.baseline, options.seed);
    common.passes.max_batch = options.max_batch;
    ComparisonOptions own;
    own.sites = {site};
    own.faithfulness.positions = common.positions[0];
    own.faithfulness.fill = common.fill;
    own.faithfulness.passes = common.passes;
    own.epsilon = options.epsilon;
    own.keep_rates = options.keep_rates;
    own.seeds = options.seeds;
    own.seed = options.seed;
    own.batch_size = options.batch_size;
    std::vector<ComparedMethod> methods =
        compared_methods(with_controls(options.methods), common, settings);
    methods.insert(methods.end(), explainers.begin(), explainers.end());
    all.add(diffmask::compare(model, Rows(batch_at(inputs, file, state, common.positions[0])),
                              methods, own));
  }
  return all;
}

void write_comparison(const Comparison& comparison, const std::string& title,
                      const CompareOptions& options) {
  if (!options.markdown.empty()) write_file(options.markdown, markdown_comparison(comparison));
  if (!options.json.empty()) write_file(options.json, json_comparison(comparison));
  if (options.html.empty()) return;
  write_file(options.html,
             html_comparison(title,
                             fmt::format("States are replaced by: {}. eps is {:g} nats.",
                                         options.baseline, options.epsilon),
                             comparison));
}

}  // namespace diffmask::cli
