#pragma once
/// \file
/// Staged models: a native module run as a list of stages, so that resuming skips the earlier ones.
///
///     h_0 = stage_0(x_0; x),  h_l = stage_l(h_{l-1}; x),  f(x) = h_L
///
/// where x are the model's inputs (a later stage may need them again: a mask, a query) and x_0 the
/// first. Every stage's output but the last's is a site. A stage may know a shorter way to f(x) for
/// passes that need no later state.
///
///     auto model = StagedModel::from(net, {
///         {"embedding", [](auto& net, auto& h, auto&) { return net.embed(h); }},
///         {"encoder", [](auto& net, auto& h, auto& x) { return net.encode(h, x[1]); }},
///         {"head", [](auto& net, auto& h, auto&) { return net.decide(h); }}});

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/model/native.hpp"

namespace torch::nn {
class SequentialImpl;
}

namespace diffmask {

struct Stage {
  std::string name;
  std::function<at::Tensor(const at::Tensor& state, const Inputs& inputs)> forward;
  /// f(x), up to rounding, from the state that this stage begins with; if empty, stage after stage.
  std::function<at::Tensor(const at::Tensor& state, const Inputs& inputs)> finish = {};
};

/// A stage whose functions are handed the module, so that they do not have to hold it. (A lambda
/// that holds a TORCH_MODULE holder sees a const module, unless it is `mutable`.)
template <typename Module>
struct StageOf {
  using Function =
      std::function<at::Tensor(Module& module, const at::Tensor& state, const Inputs& inputs)>;

  // A constructor, since g++ 12 crashes on an aggregate's default here.
  StageOf(std::string stage, Function run, Function short_way = nullptr)
      : name(std::move(stage)), forward(std::move(run)), finish(std::move(short_way)) {}

  std::string name;
  Function forward, finish;  ///< as Stage's
};

class StagedModel : public NativeModel {
 public:
  /// `module` owns what the stages use: a shared pointer or a holder. ArgumentError for fewer than
  /// two stages, a name that is empty or used twice, or a module in training mode.
  StagedModel(const ModulePtr<torch::nn::Module>& module, std::vector<Stage> stages);

  /// The same with stages that are handed the module.
  template <typename Holder>
  static std::shared_ptr<StagedModel> from(const Holder& module,
                                           std::vector<StageOf<ModuleOf<Holder>>> stages);

  /// One stage for each module of a `torch::nn::Sequential`, under its name there ("0", "1", ...).
  static std::shared_ptr<StagedModel> from(const ModulePtr<torch::nn::SequentialImpl>& sequential);

 protected:
  at::Tensor run(Pass& pass) const override;
  at::Tensor resume_from(Pass& pass) const override;

 private:
  at::Tensor run_stages(size_t first, at::Tensor state, const Pass& pass) const;

  std::vector<Stage> stages_;
};

template <typename Holder>
std::shared_ptr<StagedModel> StagedModel::from(const Holder& module,
                                               std::vector<StageOf<ModuleOf<Holder>>> stages) {
  const auto net = shared_module(module);
  using Function = typename StageOf<ModuleOf<Holder>>::Function;
  const auto bound = [&net](Function function) -> decltype(Stage::forward) {
    if (!function) return {};
    return [net, function = std::move(function)](const at::Tensor& state, const Inputs& inputs) {
      return function(*net, state, inputs);
    };
  };
  std::vector<Stage> all;
  for (auto& stage : stages) {
    all.push_back(
        {std::move(stage.name), bound(std::move(stage.forward)), bound(std::move(stage.finish))});
  }
  return std::make_shared<StagedModel>(net, std::move(all));
}

}  // namespace diffmask
