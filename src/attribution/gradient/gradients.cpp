#include "attribution/gradient/gradients.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

std::vector<at::Tensor> target_gradients(const SiteMethod::Original& original,
                                         const Recording& recording,
                                         const std::vector<Replacement>& states) {
  at::AutoGradMode with_gradients(true);
  std::vector<Replacement> replacements;
  std::vector<at::Tensor> leaves, gradients(states.size());
  for (const Replacement& state : states) {
    leaves.push_back(state.state.detach().requires_grad_(true));
    replacements.push_back({state.site, leaves.back()});
  }
  const at::Tensor output = original.model.resume(recording, replacements);
  const at::Tensor value = target::value(original.options.target, output, recording.output());
  if (value.requires_grad()) {
    gradients = torch::autograd::grad({value.sum()}, leaves, {}, /*retain_graph=*/false,
                                      /*create_graph=*/false, /*allow_unused=*/true);
  }
  for (size_t i = 0; i < states.size(); ++i) {
    if (gradients[i].defined()) continue;
    require(original.options.zero_where_independent, "site",
            "one that the output depends on (zero_where_independent gives zeros for others)",
            fmt::format("'{}'", states[i].site));
    gradients[i] = at::zeros_like(states[i].state);
  }
  return gradients;
}

}  // namespace diffmask
