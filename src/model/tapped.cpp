#include "diffmask/model/tapped.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

// Gives each call of a name its own number, and keeps the graph off until the first replaced site.
class PassTap : public Tap {
 public:
  PassTap(Tap& tap, const std::string* first) : tap_(tap), first_(first) {}

  at::Tensor operator()(const std::string& name, const at::Tensor& state) override {
    const int64_t call = calls_[name]++;
    const std::string site = call == 0 ? name : fmt::format("{}#{}", name, call);
    if (first_ && site == *first_) at::GradMode::set_enabled(caller_mode_.prev_mode());
    return tap_(site, state);
  }

 private:
  // Remembers the caller's mode and restores it, also when the forward throws.
  class RestoreMode {
   public:
    ~RestoreMode() { at::GradMode::set_enabled(mode_); }
    bool prev_mode() const { return mode_; }

   private:
    bool mode_ = at::GradMode::is_enabled();
  };

  Tap& tap_;
  const std::string* first_;
  RestoreMode caller_mode_;
  std::map<std::string, int64_t> calls_;
};

class NamingTap : public Tap {
 public:
  at::Tensor operator()(const std::string& site, const at::Tensor& state) override {
    sites.push_back({site, static_cast<int64_t>(sites.size())});
    return state;
  }
  std::vector<Site> sites;
};

}  // namespace

TappedModel::TappedModel(const ModulePtr<torch::nn::Module>& module, Forward forward,
                         const Inputs& example)
    : NativeModel(module), forward_(std::move(forward)) {
  require(forward_ != nullptr, "forward", "a function", "none");
  at::NoGradGuard no_grad;
  NamingTap names;
  PassTap pass(names, nullptr);
  forward_(example, pass);
  require(!names.sites.empty(), "forward", "a function that calls tap(name, state)", "no call");
  sites_ = std::move(names.sites);
}

at::Tensor TappedModel::run(Pass& pass) const {
  check_eval_mode();
  PassTap tap(pass.tap, nullptr);
  return forward_(pass.inputs, tap);
}

at::Tensor TappedModel::resume_from(Pass& pass) const {
  check_eval_mode();
  PassTap tap(pass.tap, &pass.sites.front().name);
  at::GradMode::set_enabled(false);  // `tap` restores the caller's mode, also where this throws
  return forward_(pass.inputs, tap);
}

}  // namespace diffmask
