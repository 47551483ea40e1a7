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

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/attribution/explainer_file.hpp"
#include "diffmask/train/trainer.hpp"

namespace diffmask {

class DiffMask : public Attributor {
 public:
  /// Throws ArgumentError for options that are not valid or sites that the model does not have.
  explicit DiffMask(std::shared_ptr<const FrozenModel> model, ExplainerOptions options = {});

  /// Trains probes and baselines on `training`; keeps what is best on `validation` (see `train`).
  /// The per-sample form has no probe to carry over to other data: it is fitted to `training`, the
  /// very examples to be explained, and is validated on them.
  Summary fit(const Dataset& training, const Dataset& validation, const TrainerOptions& options,
              const std::vector<Callback>& callbacks = {});

  /// The same with a tenth of the data, drawn by the seed, held out to validate on.
  Summary fit(const Dataset& data, const TrainerOptions& options,
              const std::vector<Callback>& callbacks = {});

  /// Trains on from the explainer that there is, as to another epsilon, where `fit` begins anew.
  /// Copies of this object keep what they have. Throws Error before `fit` or `load`.
  Summary refine(const Dataset& training, const Dataset& validation, const TrainerOptions& options,
                 const std::vector<Callback>& callbacks = {});

  /// scores = P(z != 0), over all depths up to each for input gating; keep = scores > 0.5. One pass
  /// of the model, no randomness. Throws Error before `fit` or `load`.
  Attribution attribute(const Batch& batch) const override;

  /// The model's output with a depth's site masked by z. Shape: z (B, P), in [0, 1].
  at::Tensor masked_output(const Batch& batch, int64_t depth, const at::Tensor& z) const;

  bool fitted() const { return explainer_ != nullptr; }
  const Explainer& explainer() const;

  /// An explainer file; see explainer_file.hpp.
  void save(const std::string& path) const;
  static DiffMask load(const std::string& path, std::shared_ptr<const FrozenModel> model);

 private:
  Summary train_on(std::shared_ptr<Explainer> explainer, const Dataset& training,
                   const Dataset& validation, const TrainerOptions& options,
                   const std::vector<Callback>& callbacks);

  std::shared_ptr<const FrozenModel> model_;
  ExplainerOptions options_;
  std::shared_ptr<Explainer> explainer_;
  TrainingNote note_;
};

}  // namespace diffmask
