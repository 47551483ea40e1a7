#pragma once
/// \file
/// Explainer files: the trained tensors as safetensors, with a JSON manifest in the same file's
/// metadata, so that one rename makes both visible or neither.
///
///     manifest  sites and their shapes, name and options of gate and probe, every other option,
///               seed, epsilon, steps and recipe of the training, the model's fingerprint, the
///               library's version
///     sha1      over the manifest and every tensor, so that an edited or damaged file is noticed

#include <cstdint>
#include <memory>
#include <string>

#include "diffmask/mask/explainer.hpp"

namespace diffmask {

/// How an explainer was trained.
struct TrainingNote {
  uint64_t seed = 0;
  double epsilon = 0.0;
  int64_t steps = 0;
  std::string recipe = {};
};

struct LoadedExplainer {
  std::shared_ptr<Explainer> explainer;  ///< on the model's device
  TrainingNote note;
};

/// Writes under a temporary name, then renames; FileError when that fails, the old file untouched.
/// ArgumentError for a gate or a probe without a name (Gate::part, ProbeFactory::part).
void save_explainer(const std::string& path, const Explainer& explainer, const FrozenModel& model,
                    const TrainingNote& note);

/// FileError, with the reason, where the file is damaged, was edited, was written by a library of
/// another format, belongs to another model (other parameters, or a site that is not there), or has
/// a gate or a probe that neither the library nor `own` knows by its name.
LoadedExplainer load_explainer(const std::string& path, const FrozenModel& model,
                               const PartFactories& own = {});

}  // namespace diffmask
