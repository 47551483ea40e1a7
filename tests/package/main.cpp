#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <iostream>

#include "diffmask/model/staged.hpp"

int main() {
  torch::nn::Sequential network(torch::nn::Linear(3, 4), torch::nn::Tanh(),
                                torch::nn::Linear(4, 2));
  network->eval();
  const auto model = diffmask::StagedModel::from(network.ptr());
  const auto recording = model->record({at::ones({5, 3})});
  const auto resumed = model->resume(recording, "1", recording.state("1"));
  const bool equal = resumed.equal(recording.output());
  std::cout << "resumed " << (equal ? "equals" : "differs from") << " recorded\n";
  return equal ? 0 : 1;
}
