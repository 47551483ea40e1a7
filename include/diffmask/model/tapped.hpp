#pragma once
/// \file
/// Tapped models: any C++ forward that shows its hidden states by calling `tap("name", h)`.
///
///     auto model = TappedModel::from(net, [](auto& net, const Inputs& x, Tap& tap) {
///       auto h = tap("hidden", torch::tanh(net.encode(x[0])));
///       return net.decode(h);
///     }, example_inputs);
///
/// LibTorch's C++ modules have no forward hooks, so the states have to be shown. Resuming runs the
/// whole forward again, but what comes before the first replaced site runs without a graph.

#include <functional>
#include <memory>
#include <utility>

#include "diffmask/model/native.hpp"

namespace diffmask {

class TappedModel : public NativeModel {
 public:
  using Forward = std::function<at::Tensor(const Inputs& inputs, Tap& tap)>;

  /// `module` owns what `forward` uses: a shared pointer or a holder. One pass over `example` finds
  /// the sites. A name tapped again in a pass is a site of its own, "name#1", "name#2", ...
  TappedModel(const ModulePtr<torch::nn::Module>& module, Forward forward, const Inputs& example);

  /// The same with a forward that is handed the module, so that it does not have to hold it. (A
  /// lambda that holds a TORCH_MODULE holder sees a const module, unless it is `mutable`.)
  template <typename Holder>
  static std::shared_ptr<TappedModel> from(
      const Holder& module,
      std::function<at::Tensor(ModuleOf<Holder>& module, const Inputs& inputs, Tap& tap)> forward,
      const Inputs& example) {
    Forward bound;
    if (forward) {
      bound = [net = shared_module(module), forward = std::move(forward)](
                  const Inputs& inputs, Tap& tap) { return forward(*net, inputs, tap); };
    }
    return std::make_shared<TappedModel>(module, std::move(bound), example);
  }

 protected:
  at::Tensor run(Pass& pass) const override;
  at::Tensor resume_from(Pass& pass) const override;

 private:
  Forward forward_;
};

}  // namespace diffmask
