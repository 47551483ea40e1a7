#include "diffmask/attribution/diffmask.hpp"

#include <ATen/ATen.h>

#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"

namespace diffmask {
namespace {

// Streams beside those of the trainer.
enum DiffMaskStream : uint64_t { kProbes = 16, kHeldOut };

}  // namespace

DiffMask::DiffMask(std::shared_ptr<const FrozenModel> model, ExplainerOptions options)
    : model_(std::move(model)), options_(std::move(options)) {
  require(model_ != nullptr, "model", "a model", "a null pointer");
  if (options_.sites.empty()) options_.sites = model_->site_names();
  for (const std::string& site : options_.sites) model_->site(site);
  options_.validate();
}

Summary DiffMask::fit(const Dataset& training, const Dataset& validation,
                      const TrainerOptions& options, const std::vector<Callback>& callbacks) {
  options.validate();
  require(training.size() >= 1, "training", "of at least one example", training.size());
  // The first batch gives sizes and the baselines' start; it is the training data's first in order.
  RecordedBatches first(*model_, training, options_.sites, options.batches);
  const auto item = first.at(first.size() / 2);
  auto explainer = std::make_shared<Explainer>(*model_, options_, item->recording, item->batch,
                                               Capacity{training.size(), training.longest()},
                                               make_generator(derive_seed(options.seed, kProbes)));
  return train_on(std::move(explainer), training, validation, options, callbacks);
}

Summary DiffMask::refine(const Dataset& training, const Dataset& validation,
                         const TrainerOptions& options, const std::vector<Callback>& callbacks) {
  const Explainer& now = explainer();
  // Its random first values do not matter: each is overwritten.
  auto copy = std::make_shared<Explainer>(now.options(), now.shapes(), now.capacity(),
                                          make_generator(options.seed));
  copy->to(model_->device(), now.parameters().front().scalar_type());
  for (auto& parameter : copy->named_parameters()) {
    const at::Tensor value = now.named_parameters()[parameter.key()];
    parameter.value().set_data(value.detach().clone());
  }
  return train_on(std::move(copy), training, validation, options, callbacks);
}

Summary DiffMask::train_on(std::shared_ptr<Explainer> explainer, const Dataset& training,
                           const Dataset& validation, const TrainerOptions& options,
                           const std::vector<Callback>& callbacks) {
  require(training.size() >= 1, "training", "of at least one example", training.size());
  require(validation.size() >= 1, "validation", "of at least one example", validation.size());
  const Dataset& validated = options_.per_sample ? training : validation;
  Summary summary = train(*model_, *explainer, training, validated, options, callbacks);
  explainer_ = std::move(explainer);
  note_ = {options.seed, options.epsilon, summary.steps};
  return summary;
}

Summary DiffMask::fit(const Dataset& data, const TrainerOptions& options,
                      const std::vector<Callback>& callbacks) {
  if (options_.per_sample) return fit(data, data, options, callbacks);
  require(data.size() >= 2, "data", "of at least two examples, one to validate on", data.size());
  auto order = shuffled(data.size(), make_generator(derive_seed(options.seed, kHeldOut)));
  const auto cut = order.begin() + std::max<int64_t>(data.size() / 10, 1);
  return fit(Subset(borrowed(data), {cut, order.end()}),
             Subset(borrowed(data), {order.begin(), cut}), options, callbacks);
}

const Explainer& DiffMask::explainer() const {
  if (!explainer_) throw Error("DiffMask has to be fitted or loaded first (fit, load)");
  return *explainer_;
}

Attribution DiffMask::attribute(const Batch& batch) const {
  explainer();
  batch.validate();
  at::NoGradGuard no_grad;
  const Batch moved = batch.to(model_->device());
  const Recording recording = model_->record(moved.inputs, explainer_->sites());
  std::vector<at::Tensor> keep;
  for (const Gates& gates :
       explainer_->gates(recording, moved, iota(explainer_->depths()), Draw::hard)) {
    keep.push_back(gates.log_keep.exp());
  }
  const at::Tensor explained = moved.mask.unsqueeze(2);
  const at::Tensor scores = at::stack(keep, 2).masked_fill(explained.logical_not(), 0.0);
  return {explainer_->sites(), scores, scores.gt(0.5), moved.mask};
}

at::Tensor DiffMask::masked_output(const Batch& batch, int64_t depth, const at::Tensor& z) const {
  explainer();
  batch.validate();
  at::NoGradGuard no_grad;
  const Batch moved = batch.to(model_->device());
  const Recording recording = model_->record(moved.inputs, explainer_->sites());
  return explainer_->masked_output(*model_, recording, depth, z.to(model_->device()));
}

void DiffMask::save(const std::string& path) const {
  save_explainer(path, explainer(), *model_, note_);
}

DiffMask DiffMask::load(const std::string& path, std::shared_ptr<const FrozenModel> model) {
  require(model != nullptr, "model", "a model", "a null pointer");
  LoadedExplainer loaded = load_explainer(path, *model);
  DiffMask method(std::move(model), loaded.explainer->options());
  method.explainer_ = std::move(loaded.explainer);
  method.note_ = loaded.note;
  return method;
}

}  // namespace diffmask
