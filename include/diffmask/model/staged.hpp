#pragma once
/// \file
/// Staged models: a native module run as a list of stages, so that resuming skips the earlier ones.
///
///     h_0 = stage_0(x_0; x),  h_l = stage_l(h_{l-1}; x),  f(x) = h_L
///
/// where x are the model's inputs (a later stage may need them again: a mask, a query) and x_0 the
/// first. Every stage's output but the last's is a site. A stage may know a shorter way to f(x) for
/// passes that need no later state.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/model/native.hpp"

namespace torch::nn {
class SequentialImpl;
}

namespace diffmask {

struct Stage {
  std::string name;
  std::function<at::Tensor(const at::Tensor& state, const Inputs& inputs)> forward;
  /// f(x), up to rounding, from the state that this stage begins with; none: stage after stage.
  std::function<at::Tensor(const at::Tensor& state, const Inputs& inputs)> finish = {};
};

class StagedModel : public NativeModel {
 public:
  /// `module` owns what the stages use. ArgumentError for fewer than two stages, a name that is
  /// empty or used twice, or a module in training mode.
  StagedModel(std::shared_ptr<torch::nn::Module> module, std::vector<Stage> stages);

  /// One stage for each module of a `torch::nn::Sequential`, under its name there ("0", "1", ...).
  static std::shared_ptr<StagedModel> from(std::shared_ptr<torch::nn::SequentialImpl> sequential);

 protected:
  at::Tensor run(Pass& pass) const override;

 private:
  std::vector<Stage> stages_;
};

}  // namespace diffmask
