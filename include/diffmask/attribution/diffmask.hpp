#pragma once
/// \file
/// DiffMask (De Cao, Schlichtkrull, Aziz, Titov: "How do Decisions Emerge across Layers in Neural
/// Models? Interpretation with Differentiable Masking", EMNLP 2020).
///
///     min over phi, b   E_z[ sum_t P(z_t != 0) ]   subject to   D(f(x) || f(x with h~)) <= eps
///     h~ = z h + (1 - z) b,   z ~ q(z | g_phi(h)),   attribution = P(z != 0)
///
///     DiffMask method(model, {.masking = Masking::hidden});
///     Summary summary = method.fit(training, validation, {.epsilon = 0.1});
///     Attribution attribution = method.attribute(batch);   // scores (B, T, depths)

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/attribution/explainer_file.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/mask/arranged.hpp"
#include "diffmask/mask/fill.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/objective/divergence.hpp"
#include "diffmask/train/evaluate.hpp"
#include "diffmask/train/recorded_batches.hpp"
#include "diffmask/train/summary.hpp"
#include "diffmask/train/trainer.hpp"

namespace diffmask {

class DiffMask : public Attributor {
 public:
  /// Throws ArgumentError for options that are not valid or sites that the model does not have.
  explicit DiffMask(std::shared_ptr<const FrozenModel> model, const ExplainerOptions& options = {})
      : model_(std::move(model)) {
    require(model_ != nullptr, "model", "a model", "a null pointer");
    options_ = options.resolved(*model_);
  }

  /// Trains probes and baselines on `training`; keeps what is best on `validation` (see `train`).
  /// Sizes, the probes' scale and the baselines' start are those of a typical batch of `training`.
  /// Probes with values for each example have nothing to carry over to other data: they are fitted
  /// to `training`, the very examples to be explained, and are validated on them.
  Summary fit(const Dataset& training, const Dataset& validation, const TrainerOptions& options) {
    options.validate();
    require(training.size() >= 1, "training", "of at least one example", training.size());
    const RecordedBatch typical = recorded(
        *model_, training, typical_batch(training, options.batches.batch_size), options_.sites);
    for (size_t i = 0; i < options_.sites.size(); ++i) {
      check_layout(*model_, typical.recording, typical.batch, options_.sites[i],
                   positions_at(options_.positions, i));
    }
    return train_on(std::make_shared<Explainer>(*model_, options_, typical.recording, typical.batch,
                                                Capacity{training.size(), training.longest()},
                                                make_generator(derive_seed(options.seed, kProbes))),
                    training, validation, options);
  }

  /// The same with a tenth of the data, drawn by the seed, held out to validate on.
  Summary fit(const Dataset& data, const TrainerOptions& options) {
    if (options_.probe.per_sample) return fit(data, data, options);
    require(data.size() >= 2, "data", "of at least two examples, one to validate on", data.size());
    const auto order = shuffled(data.size(), make_generator(derive_seed(options.seed, kHeldOut)));
    const auto cut = order.begin() + std::max<int64_t>(data.size() / 10, 1);
    return fit(Subset(borrowed(data), {cut, order.end()}),
               Subset(borrowed(data), {order.begin(), cut}), options);
  }

  /// Trains on from the explainer that there is, as to another epsilon, where `fit` begins anew.
  /// Copies of this object keep what they have. Throws Error before `fit` or `load`.
  Summary refine(const Dataset& training, const Dataset& validation,
                 const TrainerOptions& options) {
    const Explainer& now = explainer();
    // Its random first values do not matter: each is overwritten.
    auto copy = std::make_shared<Explainer>(now.options(), now.shapes(), now.capacity(),
                                            make_generator(options.seed));
    copy->to(model_->device(), now.parameters().front().scalar_type());
    for (auto& parameter : copy->named_parameters()) {
      const at::Tensor value = now.named_parameters()[parameter.key()];
      parameter.value().set_data(value.detach().clone());
    }
    return train_on(std::move(copy), training, validation, options);
  }

  /// scores = P(z != 0), over all depths up to each for input gating; keep = scores > 0.5. One pass
  /// of the model, no randomness. Throws Error before `fit` or `load`.
  Attribution attribute(const Batch& batch) const override {
    const Explainer& explainer = this->explainer();
    at::NoGradGuard no_grad;
    const RecordedBatch item = recorded_batch(batch);
    std::vector<at::Tensor> keep;
    for (const Gates& gates :
         explainer.gates(item.recording, item.batch, iota(explainer.depths()), Draw::hard)) {
      keep.push_back(gates.log_keep.exp());
    }
    const at::Tensor outside = item.batch.mask.logical_not().unsqueeze(2);
    const at::Tensor scores = at::stack(keep, 2).masked_fill(outside, 0.0);
    Attribution result{explainer.sites(), scores, scores.gt(0.5), item.batch.mask};
    result.passes = item.batch.size();
    return result;
  }

  /// The model's output with a depth's site masked by z. Shape: z (B, P), in [0, 1].
  at::Tensor masked_output(const Batch& batch, int64_t depth, const at::Tensor& z) const {
    const Explainer& explainer = this->explainer();
    at::NoGradGuard no_grad;
    const RecordedBatch item = recorded_batch(batch);
    return explainer.masked_output(*model_, item.recording, depth, z.to(model_->device()));
  }

  /// What its gates cost and keep over a data set, depth by depth (train/evaluate.hpp): expected
  /// gates, as in training, and hard ones. Throws Error before `fit` or `load`.
  std::vector<DepthEvaluation> evaluate(const Dataset& data, const Divergence& divergence,
                                        double epsilon) const {
    RecordedBatches recorded(*model_, data, explainer().sites(), {});
    return diffmask::evaluate(*model_, explainer(), recorded, divergence, epsilon);
  }

  /// The baselines that it learned, as what other methods and metrics put in place of a state that
  /// they take away: {.fill = method.learned_fill()}. As the fill of a site that it does not mask it
  /// throws ArgumentError. Throws Error before `fit` or `load`.
  Fill learned_fill() const {
    const Explainer& explainer = this->explainer();
    const std::vector<at::Tensor> vectors = explainer.baselines();
    std::map<std::string, at::Tensor> by_site;
    for (size_t i = 0; i < vectors.size(); ++i) {
      const Positions& positions = positions_at(explainer.options().positions, i);
      by_site[explainer.masked_site(static_cast<int64_t>(i))] =
          positions.expand_vector(vectors[i].detach());
    }
    return fill::given(std::move(by_site));
  }

  bool fitted() const { return explainer_ != nullptr; }

  const Explainer& explainer() const {
    if (!explainer_) throw Error("DiffMask has to be fitted or loaded first (fit, load)");
    return *explainer_;
  }

  const ExplainerOptions& options() const { return options_; }

  /// Writes an explainer file; see explainer_file.hpp.
  void save(const std::string& path) const { save_explainer(path, explainer(), *model_, note_); }

  /// `own` makes the gates and probes that the library does not know.
  static DiffMask load(const std::string& path, std::shared_ptr<const FrozenModel> model,
                       const PartFactories& own = {}) {
    require(model != nullptr, "model", "a model", "a null pointer");
    LoadedExplainer loaded = load_explainer(path, *model, own);
    DiffMask method(std::move(model), loaded.explainer->options());
    method.explainer_ = std::move(loaded.explainer);
    method.note_ = loaded.note;
    return method;
  }

 private:
  // Streams beside those of the trainer.
  enum Stream : uint64_t { kProbes = 16, kHeldOut };

  RecordedBatch recorded_batch(const Batch& batch) const {
    batch.validate();
    RecordedBatch item{batch.to(model_->device()), {}};
    item.recording = model_->record(item.batch.inputs, explainer().sites());
    return item;
  }

  Summary train_on(std::shared_ptr<Explainer> explainer, const Dataset& training,
                   const Dataset& validation, const TrainerOptions& options) {
    require(training.size() >= 1, "training", "of at least one example", training.size());
    require(validation.size() >= 1, "validation", "of at least one example", validation.size());
    const Dataset& validated = options_.probe.per_sample ? training : validation;
    Summary summary = train(*model_, *explainer, training, validated, options);
    explainer_ = std::move(explainer);
    note_ = {options.seed, options.epsilon, summary.steps, options.recipe.name};
    return summary;
  }

  std::shared_ptr<const FrozenModel> model_;
  ExplainerOptions options_;
  std::shared_ptr<Explainer> explainer_;
  TrainingNote note_;
};

}  // namespace diffmask
