#include "diffmask/metrics/robustness.hpp"

#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/metrics/agreement.hpp"
#include "diffmask/metrics/keep_top.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {
namespace {

// y = f with other states at a site. The input are rows of the batch that was recorded.
class StateModel : public FrozenModel {
 public:
  StateModel(std::shared_ptr<const FrozenModel> model, const Recording& recording, std::string site,
             at::Tensor state)
      : model_(std::move(model)), recording_(recording), state_(std::move(state)) {
    sites_ = {{std::move(site)}};
  }

  std::map<std::string, at::Tensor> tensors() const override { return model_->tensors(); }

 protected:
  at::Tensor run(Pass& pass) const override {
    const std::string& site = sites_[0].name;
    const at::Tensor& rows = pass.inputs[0];
    const at::Tensor h = pass.tap(site, state_.index_select(0, rows));
    return model_->resume(model_->select_rows(recording_, rows, {site}), site, h);
  }

 private:
  std::shared_ptr<const FrozenModel> model_;
  const Recording recording_;
  at::Tensor state_;
};

at::Tensor norms(const at::Tensor& values) {
  return values.to(at::kDouble).reshape({values.size(0), -1}).norm(2, 1);
}

}  // namespace

Explanation explanation_at(
    std::shared_ptr<const FrozenModel> model, const Batch& batch, const std::string& site,
    std::function<Attribution(std::shared_ptr<const FrozenModel>, const Batch&)> attribute) {
  require(model != nullptr, "model", "a model", "a null pointer");
  require(attribute != nullptr, "attribute", "a function", "none");
  batch.validate();
  const Recording recording = model->record(batch.inputs, {site});
  return [=](const at::Tensor& state) {
    Batch rows = batch;
    rows.inputs = {at::arange(batch.size(), batch.mask.options().dtype(at::kLong))};
    return attribute(std::make_shared<StateModel>(model, recording, site, state), rows)
        .scores.select(2, 0);
  };
}

at::Tensor sensitivity_max(const Explanation& explain, const at::Tensor& state,
                           const at::Tensor& perturbations) {
  require(explain != nullptr, "explain", "a function", "none");
  check_finite("state", state);
  std::vector<int64_t> shape = state.sizes().vec();
  shape.insert(shape.begin(), -1);
  check_shape("perturbations", perturbations, shape);
  check_finite("perturbations", perturbations);
  const at::Tensor original = explain(state);
  at::Tensor largest = at::zeros({state.size(0)}, state.options().dtype(at::kDouble));
  for (const at::Tensor& change : perturbations.unbind(0)) {
    const at::Tensor moved = explain(state + change);
    check_shape("explain(state + perturbation)", moved, original.sizes());
    largest = at::maximum(largest, norms(moved - original));
  }
  const at::Tensor norm = norms(original);
  return largest / at::where(norm.gt(0), norm, at::ones_like(norm));
}

at::Tensor uniform_perturbations(const at::Tensor& state, int64_t count, double radius,
                                 at::Generator generator) {
  require(count >= 1, "count", ">= 1", count);
  require(radius > 0, "radius", "> 0", radius);
  std::vector<int64_t> shape = state.sizes().vec();
  shape.insert(shape.begin(), count);
  return (2 * drawn_uniform(shape, std::move(generator), state.options()) - 1) * radius;
}

at::Tensor row_spearman(const at::Tensor& a, const at::Tensor& b, const at::Tensor& mask) {
  check_dtype("mask", mask, at::kBool);
  check_shape("a", a, mask.sizes());
  check_shape("b", b, mask.sizes());
  std::vector<double> rows;
  for (int64_t row = 0; row < mask.size(0); ++row) {
    const at::Tensor x = a[row].index({mask[row]}), y = b[row].index({mask[row]});
    rows.push_back(x.size(0) < 2 ? NAN : spearman(x, y));
  }
  return at::tensor(rows, at::kDouble);
}

at::Tensor top_agreement(const at::Tensor& a, const at::Tensor& b, const at::Tensor& mask,
                         double share) {
  const at::Tensor common =
      keep_top(a, mask, share).keep.logical_and(keep_top(b, mask, share).keep);
  return common.sum(1).to(at::kDouble) / top_counts(mask, share).clamp_min(1);
}

}  // namespace diffmask
