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

StagedModel::StagedModel(std::shared_ptr<torch::nn::Module> module, std::vector<Stage> stages)
    : NativeModel(std::move(module)), stages_(std::move(stages)) {
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
    std::shared_ptr<torch::nn::SequentialImpl> sequential) {
  require(sequential != nullptr, "sequential", "a module", "a null pointer");
  const auto names = sequential->named_children().keys();
  std::vector<Stage> stages;
  for (size_t i = 0; i < sequential->size(); ++i) {
    auto module = *(sequential->begin() + static_cast<std::ptrdiff_t>(i));
    stages.push_back({names[i], [module](const at::Tensor& state, const Inputs&) mutable {
                        return module.forward(state);
                      }});
  }
  return std::make_shared<StagedModel>(std::move(sequential), std::move(stages));
}

at::Tensor StagedModel::run(Pass& pass) const {
  check_eval_mode();
  size_t next = 0;
  at::Tensor state;
  if (pass.resumed) {
    const Site& first = pass.sites.front();
    state = pass.tap(first.name, state);
    next = static_cast<size_t>(first.depth) + 1;
  } else {
    state =
        pass.inputs[0].clone();  // a first stage that works in place must not write into the inputs
  }
  const int64_t last = pass.sites.empty() ? -1 : pass.sites.back().depth;
  for (; next < stages_.size(); ++next) {
    const Stage& stage = stages_[next];
    if (stage.finish && static_cast<int64_t>(next) > last) return stage.finish(state, pass.inputs);
    state = stage.forward(state, pass.inputs);
    if (next < sites_.size()) state = pass.tap(sites_[next].name, state);
  }
  return state;
}

}  // namespace diffmask
