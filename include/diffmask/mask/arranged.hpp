#pragma once
/// \file
/// A model whose states have the examples first, whatever their layout is in the model's own: what
/// methods work on that take examples by rows. And the check that a layout is true.
///
///     Arranged model(lstm, {{"embed", Positions::of("TBF")}});
///     model.record({ids}).state("embed");       // (B, T, F), where the model's own is (T, B, F)
///
/// Of states without a batch ("NF": one graph) the output is of one example, too: (N, C) is
/// (1, N, C), unless it has a first axis of 1 already.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/mask/positions.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

class Arranged : public FrozenModel {
 public:
  /// States at sites that are not named stay as they are.
  Arranged(std::shared_ptr<const FrozenModel> model, std::map<std::string, Positions> positions);

  std::map<std::string, at::Tensor> tensors() const override { return model_->tensors(); }
  std::shared_ptr<const Program> program(const Inputs& inputs) const override {
    return model_->program(inputs);
  }
  const FrozenModel& inner() const { return *model_; }

 protected:
  at::Tensor run(Pass& pass) const override;
  at::Tensor resume_from(Pass& pass) const override;

 private:
  at::Tensor output_of(const at::Tensor& output) const;

  std::shared_ptr<const FrozenModel> model_;
  std::map<std::string, Positions> positions_;
  bool unbatched_ = false;
};

/// An output with the examples first, where states have no batch.
at::Tensor arranged_output(const at::Tensor& output, bool unbatched);

/// The model itself where every layout has the examples first, else an Arranged one. `positions`:
/// one for all sites, or one per site; empty: sequences.
std::shared_ptr<const FrozenModel> arranged(std::shared_ptr<const FrozenModel> model,
                                            const std::vector<std::string>& sites,
                                            const std::vector<Positions>& positions);

/// How much an example's state at a site changes other examples' outputs, as a share of what it
/// changes its own: 0 where the layout is true; about 1 where its batch axis is another one, or the
/// examples depend on one another; -1 where the state changes nothing. A resumed pass for each
/// of the first 8 examples.
double leak(const FrozenModel& model, const Recording& recording, const std::string& site,
            const Positions& positions);

/// A leak up to this is let pass: one scale for a whole batch, as in quantized layers, leaks.
constexpr double kLargestLeak = 0.25;

/// Whether shapes leave a doubt about a layout: the examples are not the first axis, the state has
/// another axis as long as the batch, or an input does not begin with the examples.
bool is_doubtful(const at::Tensor& state, const Batch& batch, const Positions& positions);

/// Throws ArgumentError, which names the cure, where a layout is not true. It is tried out (`leak`)
/// where shapes leave a doubt.
void check_layout(const FrozenModel& model, const Recording& recording, const Batch& batch,
                  const std::string& site, const Positions& positions);

}  // namespace diffmask
