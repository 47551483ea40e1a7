#include "diffmask/core/random.hpp"

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>

#include "diffmask/core/error.hpp"

namespace diffmask {

at::Generator make_generator(uint64_t seed, c10::Device device) {
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed(seed);
  return generator;
}

at::Tensor drawn_uniform(at::IntArrayRef sizes, at::Generator generator,
                         const at::TensorOptions& options) {
  const c10::Device device = generator.device();
  return at::rand(sizes, std::move(generator), options.device(device)).to(options.device());
}

at::Tensor drawn_normal(at::IntArrayRef sizes, at::Generator generator,
                        const at::TensorOptions& options) {
  const c10::Device device = generator.device();
  return at::randn(sizes, std::move(generator), options.device(device)).to(options.device());
}

uint64_t derive_seed(uint64_t seed, uint64_t stream) {
  uint64_t z = seed + 0x9E3779B97F4A7C15ULL * (stream + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

at::Tensor dropped_out(const at::Tensor& x, double rate, at::Generator generator) {
  require(rate >= 0 && rate < 1, "rate", "in [0, 1)", rate);
  if (rate == 0) return x;
  require(generator.defined(), "generator", "given where the rate is above 0", "none");
  const at::TensorOptions there = x.options().device(generator.device());
  const at::Tensor kept = at::empty_like(x, there).bernoulli_(1 - rate, std::move(generator));
  return x * kept.div_(1 - rate).to(x.device());
}

}  // namespace diffmask
