#include "attribution/learned/free_noise.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/optim/optimiser.hpp"

namespace diffmask {

at::Tensor FreeNoise::descend(const SiteMethod::Original& original, int64_t depth,
                              const at::Tensor& start, at::Generator generator) const {
  const std::string& site = original.site(depth);
  const at::Tensor& recorded = original.state(depth);
  const at::Tensor rows = original.examples().repeat({draws});
  std::vector<int64_t> noise_shape = recorded.sizes().vec();
  noise_shape[0] *= draws;
  at::Tensor parameters = start.clone().requires_grad_(true);
  Descent descent(optimiser::adam(), {{"noise", {parameters}, rate}});
  for (int64_t step = 0; step < steps; ++step) {
    // Drawn at once: the same noise, however the rows are cut.
    const at::Tensor noise = drawn_normal(noise_shape, generator, recorded.options());
    at::Tensor gradient;
    {
      at::AutoGradMode with_gradients(true);
      gradient = torch::autograd::grad({cost(parameters).sum()}, {parameters})[0].clone();
    }
    original.passes.each({site}, rows, [&](const Passes::Chunk& chunk) {
      const auto cut = [&](const at::Tensor& t) { return t.slice(0, chunk.begin, chunk.end); };
      at::AutoGradMode with_gradients(true);
      const at::Tensor noisy =
          state(parameters, cut(rows), chunk.recording.state(site), cut(noise));
      const at::Tensor output = original.model.resume(chunk.recording, site, noisy);
      const at::Tensor loss = divergence(chunk.recording.output(), output);
      const std::string name = fmt::format("divergence at '{}'", site);
      check_shape(name, loss, {chunk.end - chunk.begin});
      check_finite(name, loss);
      if (!loss.requires_grad()) {
        require(original.options.zero_where_independent, "site",
                "one that the output depends on (zero_where_independent gives zeros for others)",
                fmt::format("'{}'", site));
        return;
      }
      gradient += torch::autograd::grad({loss.sum() / draws}, {parameters})[0];
    });
    descent.step(std::vector<at::Tensor>{gradient});
    at::Tensor values = parameters.detach();
    project(values);
  }
  return parameters.detach();
}

}  // namespace diffmask
