// diffmask::model alone: records and resumes a native module and a TorchScript archive.
#include <torch/csrc/jit/api/module.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <diffmask/model/staged.hpp>
#include <diffmask/program/exported.hpp>

#include <iostream>
#include <string>

namespace {

bool resumes(const diffmask::FrozenModel& model, const std::string& site) {
  const auto recording = model.record({at::ones({5, 3})}, {site});
  const auto same = model.resume(recording, site, recording.state(site));
  const auto other = model.resume(recording, site, recording.state(site) + 1);
  const bool right = same.equal(recording.output()) && !other.equal(recording.output());
  std::cout << site << ": resumed " << (right ? "as" : "not as") << " recorded\n";
  return right;
}

}  // namespace

int main() {
  torch::nn::Sequential network(torch::nn::Linear(3, 4), torch::nn::Tanh(),
                                torch::nn::Linear(4, 2));
  network->eval();
  const auto staged = diffmask::StagedModel::from(network.ptr());

  torch::jit::Module layer("Layer"), script("Net");
  layer.define("def forward(self, x):\n  return torch.tanh(x)\n");
  script.register_module("layer", layer);
  script.define("def forward(self, x):\n  return self.layer.forward(x).sum(1)\n");
  script.save("net.pt");
  const auto program = diffmask::load_program("net.pt");

  return resumes(*staged, "1") && resumes(*program, "layer") ? 0 : 1;
}
