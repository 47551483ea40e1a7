#pragma once
/// \file
/// Tapped models: any C++ forward that shows its hidden states by calling `tap("name", h)`.
///
///     TappedModel model(net, [net](const Inputs& x, Tap& tap) {
///       auto h = tap("hidden", torch::tanh(net->encode(x[0])));
///       return net->decode(h);
///     }, example_inputs);
///
/// LibTorch's C++ modules have no forward hooks, so the states have to be shown. Resuming runs the
/// whole forward again, but what comes before the replaced site runs without a graph.

#include <functional>
#include <memory>

#include "diffmask/model/native.hpp"

namespace diffmask {

class TappedModel : public NativeModel {
 public:
  using Forward = std::function<at::Tensor(const Inputs& inputs, Tap& tap)>;

  /// `module` owns what `forward` uses; one pass over `example` finds the sites. A name tapped
  /// again in a pass is a site of its own, "name#1", "name#2", ...
  TappedModel(std::shared_ptr<torch::nn::Module> module, Forward forward, const Inputs& example);

 protected:
  at::Tensor run(Pass& pass) const override;

 private:
  Forward forward_;
};

}  // namespace diffmask
