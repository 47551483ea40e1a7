#pragma once
/// \file
/// The explainer: the trained part of DiffMask, a probe a depth and a baseline a masked site.
///
///     hidden gating:  logit_l = g_l(h_l)            z_l alone masks h_l
///     input gating:   logit_l = g_l([h_0; h_l])     z_0 z_1 ... z_l masks h_0
///
/// With input gating a position that is dropped at a depth stays dropped above, and
/// log P(z != 0) is the sum over depths (De Cao et al. 2020, section 3).

#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/data/batch.hpp"
#include "diffmask/gate/hard_concrete.hpp"
#include "diffmask/mask/baseline.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/model/frozen_model.hpp"
#include "diffmask/probe/free_logits.hpp"
#include "diffmask/probe/mlp.hpp"

namespace diffmask {

enum class Masking { input, hidden };

/// How z is distributed, and so how gates are trained: by z's own gradient, or by REINFORCE.
enum class GateKind { hard_concrete, bernoulli };

struct ExplainerOptions {
  Masking masking = Masking::hidden;
  std::vector<std::string> sites;    ///< the depths, in execution order; none: all of the model's
  std::vector<Positions> positions;  ///< one for all sites, or one a site; none: sequences
  bool per_sample = false;           ///< free logits an example and depth in place of probes
  MlpProbeOptions probe;             ///< of the amortised form
  FreeLogitsOptions free_logits;     ///< of the per-sample form
  GateKind gate_kind = GateKind::hard_concrete;
  HardConcreteOptions gate;  ///< of GateKind::hard_concrete
  BaselineOptions baseline;

  void validate() const;
};

/// How z is got from a logit: drawn, its mean, or 1[P(z != 0) > 0.5].
enum class Draw { sample, mean, hard };

/// The gates of one depth over a batch; outside of the batch's mask z = 1 and log P = 0.
struct Gates {
  at::Tensor log_keep;  ///< (B, P): log P(z != 0), over all depths up to this one for input gating
  at::Tensor z;         ///< (B, P)
  /// (B): log q of the gates drawn, over all depths up to this one for input gating; of samples
  /// that have no gradient (Gate::log_prob), else undefined.
  at::Tensor log_prob = {};
};

/// How many examples, of how many positions at most, per-sample logits are for.
struct Capacity {
  int64_t examples = 0, positions = 0;
};

/// What an explainer has to know of a site's state.
struct SiteShape {
  int64_t features = 0;  ///< numbers a probe reads of a position
  int64_t channels = 0;  ///< numbers of a baseline: fewer than features where a position is a patch
};

class Explainer : public torch::nn::Module {
 public:
  /// Untrained, with baselines as given or zero. Shape: one SiteShape a site, in the sites' order.
  Explainer(ExplainerOptions options, std::vector<SiteShape> shapes, Capacity capacity,
            at::Generator generator);

  /// The same with shapes, device, the probes' scale and mean states taken from one recorded batch.
  Explainer(const FrozenModel& model, ExplainerOptions options, const Recording& recording,
            const Batch& batch, Capacity capacity, at::Generator generator);

  int64_t depths() const { return static_cast<int64_t>(options_.sites.size()); }
  const std::vector<std::string>& sites() const { return options_.sites; }
  const ExplainerOptions& options() const { return options_; }
  const std::vector<SiteShape>& shapes() const { return shapes_; }
  const Capacity& capacity() const { return capacity_; }

  /// The site that is masked at a depth: its own, or the first for input gating.
  const std::string& masked_site(int64_t depth) const;

  /// The gates of each of `depths`, all from one recording; the generator is used for Draw::sample,
  /// dropout in training alone.
  std::vector<Gates> gates(const Recording& recording, const Batch& batch,
                           const std::vector<int64_t>& depths, Draw draw,
                           at::Generator generator = {}, const Dropout& dropout = {}) const;

  /// z h + (1 - z) b at the depth's masked site.
  at::Tensor masked_state(const Recording& recording, int64_t depth, const at::Tensor& z) const;

  /// The model's output with the depth's site masked by z.
  at::Tensor masked_output(const FrozenModel& model, const Recording& recording, int64_t depth,
                           const at::Tensor& z) const;

  std::vector<at::Tensor> gate_parameters() const;
  std::vector<at::Tensor> baselines() const { return baselines_; }

  /// Which parameters a depth's result rests on alone, by name: its probe and baseline for hidden
  /// gating; none for input gating, where depths share both.
  std::vector<std::string> own_parameters(int64_t depth) const;

  /// Keeps parameters in their allowed set; called after each update.
  void project();

 private:
  const Positions& positions(int64_t depth) const;
  /// What the probe of a depth reads. Shape: (B, P, F).
  at::Tensor features(const Recording& recording, int64_t depth) const;
  at::Tensor logits(const Recording& recording, const Batch& batch, int64_t depth,
                    const Dropout& dropout) const;
  int64_t masked_depth(int64_t depth) const;

  ExplainerOptions options_;
  std::vector<SiteShape> shapes_;
  Capacity capacity_;
  std::shared_ptr<const Gate> gate_;
  std::vector<std::shared_ptr<Probe>> probes_;
  std::vector<at::Tensor> baselines_;
};

}  // namespace diffmask
