#include "diffmask/nets/init.hpp"

#include <cmath>

namespace diffmask {

// Goes from child to child, as modules() cannot be asked for within a constructor.
void initialise(torch::nn::Module& module, at::Generator generator) {
  at::NoGradGuard no_grad;
  const bool embedding = module.as<torch::nn::Embedding>() != nullptr;
  for (at::Tensor& parameter : module.parameters(/*recurse=*/false)) {
    if (embedding) {
      parameter.normal_(0.0, 1.0, generator);
    } else if (parameter.dim() >= 2) {
      const double range = 1.0 / std::sqrt(static_cast<double>(parameter[0].numel()));
      parameter.uniform_(-range, range, generator);
    } else {
      parameter.zero_();
    }
  }
  for (const auto& child : module.children()) initialise(*child, generator);
}

}  // namespace diffmask
