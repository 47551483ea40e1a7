#include "diffmask/model/staged.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/sequential.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "diffmask/core/error.hpp"

namespace diffmask {

StagedModel::StagedModel(const ModulePtr<torch::nn::Module>& module, std::vector<Stage> stages)
    : NativeModel(module), stages_(std::move(stages)) {
  require(stages_.size() >= 2, "stages", "two or more", stages_.size());
  for (const Stage& stage : stages_) {
    const auto same = [&](const Stage& other) { return other.name == stage.name; };
    require(!stage.name.empty(), "a stage's name", "not empty", "''");
    require(std::count_if(stages_.begin(), stages_.end(), same) == 1, "a stage's name", "used once",
            fmt::format("'{}' twice", stage.name));
    require(stage.forward != nullptr, fmt::format("stage '{}'", stage.name), "a function", "none");
    if (&stage != &stages_.back())
      sites_.push_back({stage.name, static_cast<int64_t>(sites_.size())});
  }
}

std::shared_ptr<StagedModel> StagedModel::from(
    const ModulePtr<torch::nn::SequentialImpl>& sequential) {
  const auto& layers = sequential.ptr();
  require(layers != nullptr, "sequential", "a module", "a null pointer");
  const auto names = layers->named_children().keys();
  std::vector<Stage> stages;
  for (size_t i = 0; i < layers->size(); ++i) {
    auto layer = *(layers->begin() + static_cast<std::ptrdiff_t>(i));
    stages.push_back({names[i], [layer](const at::Tensor& state, const Inputs&) mutable {
                        return layer.forward(state);
                      }});
  }
  return std::make_shared<StagedModel>(layers, std::move(stages));
}

at::Tensor StagedModel::run(Pass& pass) const {
  check_eval_mode();
  // A first stage that works in place must not write into the inputs.
  return run_stages(0, pass.inputs[0].clone(), pass);
}

at::Tensor StagedModel::resume_from(Pass& pass) const {
  check_eval_mode();
  const Site& first = pass.sites.front();
  return run_stages(static_cast<size_t>(first.depth) + 1, pass.tap(first.name, at::Tensor()), pass);
}

at::Tensor StagedModel::run_stages(size_t first, at::Tensor state, const Pass& pass) const {
  const int64_t last_site = pass.sites.empty() ? -1 : pass.sites.back().depth;
  for (size_t i = first; i < stages_.size(); ++i) {
    const Stage& stage = stages_[i];
    if (stage.finish && static_cast<int64_t>(i) > last_site) {
      return stage.finish(state, pass.inputs);
    }
    state = stage.forward(state, pass.inputs);
    if (i < sites_.size()) state = pass.tap(sites_[i].name, state);
  }
  return state;
}

}  // namespace diffmask
