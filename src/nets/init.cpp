#include "diffmask/nets/init.hpp"

#include <cmath>

namespace diffmask {

void initialise(torch::nn::Module& module, at::Generator generator) {
  at::NoGradGuard no_grad;
  for (const auto& item : module.named_modules()) {
    const bool embedding = item.value()->as<torch::nn::Embedding>() != nullptr;
    for (at::Tensor& parameter : item.value()->parameters(/*recurse=*/false)) {
      if (embedding) {
        parameter.normal_(0.0, 1.0, generator);
      } else if (parameter.dim() >= 2) {
        const double range = 1.0 / std::sqrt(static_cast<double>(parameter[0].numel()));
        parameter.uniform_(-range, range, generator);
      } else {
        parameter.zero_();
      }
    }
  }
}

}  // namespace diffmask
