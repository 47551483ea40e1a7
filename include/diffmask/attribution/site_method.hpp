#pragma once
/// \file
/// What all methods share that explain a recorded pass site by site: they check options and batch,
/// record once, and put the sites' results side by side.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"
#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

class SiteMethod : public Attributor {
 public:
  /// Besides what Attributor says, ArgumentError where a site has no positions as the options lay
  /// them out, or others than the batch; where the target does not fit the output or the fill not
  /// the state; Cancelled.
  Attribution attribute(const Batch& batch) const override;

  /// As they are used: valid, with sites, the positions arranged (Positions::arranged).
  const AttributionOptions& options() const { return options_; }

  /// A recorded batch, ready to be explained.
  struct Original {
    const FrozenModel& model;
    const AttributionOptions& options;
    const Batch& batch;          ///< on the model's device
    const Recording& recording;  ///< of all sites
    at::Tensor value;            ///< (B): the target of the output
    Passes& passes;

    const std::string& site(int64_t depth) const;
    const Positions& positions(int64_t depth) const;
    const at::Tensor& state(int64_t depth) const { return recording.state(site(depth)); }
    /// The numbers 0 .. B - 1: a row for each example. Shape: (B) int64.
    at::Tensor examples() const;
    /// What replaces the state; random fills give another one each time. Shape: the state's.
    at::Tensor fill(int64_t depth) const;
  };

  /// One site's result: what Attribution has of it.
  struct Column {
    at::Tensor scores, keep;   // (B, P)
    at::Tensor features = {};  // the state's shape
    at::Tensor gap = {};       // (B)
    at::Tensor proven = {};    // (B) bool
  };

 protected:
  /// Throws ArgumentError for options that are not valid or sites that the model does not have.
  SiteMethod(std::shared_ptr<const FrozenModel> model, AttributionOptions options);

  /// Checks the batch, records it and hands it to `use`.
  void with_original(const Batch& batch, const std::function<void(const Original&)>& use) const;

  const FrozenModel& model() const { return *model_; }

  virtual Column explain(const Original& original, int64_t depth) const = 0;
  /// For methods that explain sites together.
  virtual std::vector<Column> explain_all(const Original& original) const;

  /// Whether states have to have positions, as `options().positions` lays them out.
  virtual bool needs_positions() const { return true; }

  /// A position's score is the sum over its features; keep where that is above 0.
  static Column summed(const Original& original, int64_t depth, const at::Tensor& features);

 private:
  // The model and the layouts are arranged: states have the examples first.
  std::shared_ptr<const FrozenModel> model_;
  AttributionOptions options_;
  std::vector<Positions> given_;
};

}  // namespace diffmask
