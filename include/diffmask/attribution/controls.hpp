#pragma once
/// \file
/// Controls: what a method has to beat before it says anything.
///
///     uniform               s_t = 1
///     random                s_t ~ U(0, 1)
///     gradient              s_t = || dy / dh_t ||                     (Simonyan et al. 2014)
///     gradient x input      s_t = dy / dh_t . (h_t - b_t)             (Shrikumar et al. 2017)
///     attention             s_t = max over heads of the mean over queries q of a[q, t]
///
/// y being the target and b the fill. All keep the positions with s > 0, but random those with
/// s > 0.5.

#include <cstdint>
#include <memory>
#include <utility>

#include "diffmask/attribution/site_method.hpp"

namespace diffmask {

class Uniform : public SiteMethod {
 public:
  explicit Uniform(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {})
      : SiteMethod(std::move(model), std::move(options)) {}

 protected:
  Column explain(const Original& original, int64_t depth) const override;
};

class Random : public SiteMethod {
 public:
  Random(std::shared_ptr<const FrozenModel> model, at::Generator generator,
         AttributionOptions options = {});

 protected:
  Column explain(const Original& original, int64_t depth) const override;

 private:
  at::Generator generator_;
};

/// Features: the gradient itself. The norm is the Euclidean one.
class Gradient : public SiteMethod {
 public:
  explicit Gradient(std::shared_ptr<const FrozenModel> model, AttributionOptions options = {})
      : SiteMethod(std::move(model), std::move(options)) {}

 protected:
  Column explain(const Original& original, int64_t depth) const override;
};

/// Features: the products.
class GradientTimesInput : public SiteMethod {
 public:
  explicit GradientTimesInput(std::shared_ptr<const FrozenModel> model,
                              AttributionOptions options = {})
      : SiteMethod(std::move(model), std::move(options)) {}

 protected:
  Column explain(const Original& original, int64_t depth) const override;
};

/// Reads sites that hold attention's weights, of shape (B, heads, P queries, P keys); queries are
/// those of the batch's mask. It says where a model looks, not what its decision needs.
class AttentionWeights : public SiteMethod {
 public:
  AttentionWeights(std::shared_ptr<const FrozenModel> model, AttributionOptions options)
      : SiteMethod(std::move(model), std::move(options)) {}

 protected:
  Column explain(const Original& original, int64_t depth) const override;
  bool needs_positions() const override { return false; }
};

}  // namespace diffmask
