// diffmask::diffmask: a few steps of DiffMask for a model of two stages.
#include <ATen/ATen.h>
#include <diffmask/diffmask.hpp>
#include <diffmask/report/eigen.hpp>

#include <iostream>
#include <memory>
#include <vector>

int main() {
  // f(x) = sum_t 2 x_t, of which the first position is all that there is.
  const std::vector<diffmask::Stage> stages = {
      {"double", [](const at::Tensor& x, const diffmask::Inputs&) { return 2 * x; }},
      {"sum", [](const at::Tensor& h, const diffmask::Inputs&) { return h.sum(1); }}};
  auto module = std::make_shared<torch::nn::Module>();
  module->eval();
  const auto model = std::make_shared<diffmask::StagedModel>(module, stages);
  at::Tensor values = at::zeros({4, 3, 2});
  values.select(1, 0).fill_(1);
  const diffmask::PaddedDataset data({{values, true}}, at::full({4}, 3, at::kLong), {}, false);

  diffmask::DiffMask method(model);
  method.fit(data, data, {.steps = 2});
  const auto attribution = method.attribute(data.batch({0, 1}));
  std::cout << "DiffMask " << diffmask::version() << ", P(z != 0) of the first example:\n"
            << diffmask::view(attribution, 0) << '\n';
  return method.fitted() ? 0 : 1;
}
