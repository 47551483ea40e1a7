#include "diffmask/model/frozen_model.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/hash.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <regex>
#include <set>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/glob.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

// A tensor's numbers in tensors with storage: itself, or the indices and values of a sparse one.
std::vector<at::Tensor> dense_parts(const at::Tensor& tensor) {
  if (tensor.is_sparse()) return {tensor._indices(), tensor._values()};
  if (tensor.is_sparse_csr()) {
    return {tensor.crow_indices(), tensor.col_indices(), tensor.values()};
  }
  return {tensor.layout() == at::kStrided ? tensor : tensor.to_dense()};
}

// Copies, since a later in-place operator would otherwise change what was recorded.
class RecordingTap : public Tap {
 public:
  RecordingTap(const std::vector<std::string>& sites, std::map<std::string, at::Tensor>& states)
      : sites_(sites.begin(), sites.end()), states_(states) {}

  at::Tensor operator()(const std::string& site, const at::Tensor& state) override {
    if (sites_.empty() || sites_.contains(site)) states_[site] = state.detach().clone();
    return state;
  }

 private:
  std::set<std::string> sites_;
  std::map<std::string, at::Tensor>& states_;
};

// Hands out copies for the same reason: the caller's state is not the model's to write into.
class ReplacingTap : public Tap {
 public:
  explicit ReplacingTap(const std::vector<Replacement>& replacements) {
    for (const Replacement& replacement : replacements) {
      require(left_.emplace(replacement.site, replacement.state).second, "replacements",
              "one per site", fmt::format("two at '{}'", replacement.site));
    }
  }

  at::Tensor operator()(const std::string& site, const at::Tensor& state) override {
    const auto found = left_.find(site);
    if (found == left_.end()) return state;
    const at::Tensor replaced = found->second.clone();
    left_.erase(found);
    return replaced;
  }

  // A model whose path depends on its inputs may pass a site by.
  void check_all_replaced() const {
    require(left_.empty(), "site", "reached by the model on these inputs",
            left_.empty() ? "" : fmt::format("'{}', which was not", left_.begin()->first));
  }

 private:
  std::map<std::string, at::Tensor> left_;
};

// Gives the states that are known already.
class GivingTap : public Tap {
 public:
  explicit GivingTap(const std::map<std::string, at::Tensor>& states) : states_(states) {}
  at::Tensor operator()(const std::string& site, const at::Tensor&) override {
    return states_.at(site);
  }

 private:
  const std::map<std::string, at::Tensor>& states_;
};

uint64_t next_id() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

// LibTorch's sha1 of an empty text is left uninitialised: a model may have no tensors, or empty
// ones.
std::string sha1_of(const std::string& text) {
  return text.empty() ? "da39a3ee5e6b4b0d3255bfef95601890afd80709" : c10::sha1(text).str();
}

}  // namespace

const at::Tensor& Recording::state(const std::string& site) const {
  const auto found = states_.find(site);
  if (found != states_.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, state] : states_) names.push_back(name);
  throw ArgumentError("site", "one of the recorded ones", with_nearest(site, names));
}

FrozenModel::FrozenModel() : id_(next_id()) {}

at::Tensor FrozenModel::resume_from(Pass& pass) const { return run(pass); }

void FrozenModel::carry(Pass&) const {}

std::shared_ptr<const Program> FrozenModel::program(const Inputs&) const {
  throw ArgumentError("model",
                      "a program, a native model, or one that overrides "
                      "FrozenModel::program(inputs)",
                      "another kind of model");
}

std::vector<std::string> FrozenModel::site_names() const {
  std::vector<std::string> names;
  for (const Site& site : sites_) names.push_back(site.name);
  return names;
}

const Site& FrozenModel::site(const std::string& name) const {
  const auto found = std::find_if(sites_.begin(), sites_.end(),
                                  [&](const Site& site) { return site.name == name; });
  if (found == sites_.end()) {
    throw ArgumentError("site", "one of the model's", with_nearest(name, site_names()));
  }
  return *found;
}

std::vector<Site> FrozenModel::in_order(const std::vector<std::string>& names) const {
  std::vector<Site> sites;
  for (const std::string& name : names) sites.push_back(site(name));
  std::sort(sites.begin(), sites.end(),
            [](const Site& a, const Site& b) { return a.depth < b.depth; });
  return sites;
}

std::vector<std::string> FrozenModel::select_regex(const std::string& expression) const {
  std::vector<std::string> names;
  try {
    const std::regex regex(expression);
    for (const Site& site : sites_) {
      if (std::regex_match(site.name, regex)) names.push_back(site.name);
    }
  } catch (const std::regex_error& error) {
    throw ArgumentError("sites", fmt::format("a regular expression ({})", error.what()),
                        fmt::format("'{}'", expression));
  }
  require(!names.empty(), "sites", "a regular expression that some site matches",
          fmt::format("'{}'", expression));
  return names;
}

std::vector<std::string> FrozenModel::select(const std::string& pattern) const {
  std::vector<std::string> names;
  for (const Site& site : sites_) {
    if (site.name == pattern) return {pattern};  // a name may hold a star
    if (glob_matches(pattern, site.name)) names.push_back(site.name);
  }
  require(!names.empty(), "sites", "a pattern that some site matches",
          with_nearest(pattern, site_names()));
  return names;
}

void FrozenModel::check_recorded_here(const Recording& recording) const {
  require(recording.model_ == id_, "recording", "one of this model",
          recording.model_ != 0 ? "another model's" : "an empty one");
}

Recording FrozenModel::record(const Inputs& inputs, const std::vector<std::string>& sites) const {
  require(!inputs.empty(), "inputs", "at least one tensor", "none");
  at::NoGradGuard no_grad;
  Recording recording;
  recording.model_ = id_;
  std::vector<int64_t> versions;
  for (size_t i = 0; i < inputs.size(); ++i) {
    require(inputs[i].defined(), fmt::format("inputs[{}]", i), "defined", "an undefined tensor");
    recording.inputs_.push_back(inputs[i].detach().clone());
    versions.push_back(recording.inputs_[i]._version());
  }
  RecordingTap tap(sites, recording.states_);
  Pass pass{recording.inputs_, tap, sites.empty() ? sites_ : in_order(sites)};
  recording.output_ = run(pass).detach();
  recording.memory_ = std::move(pass.memory);
  for (size_t i = 0; i < inputs.size(); ++i) {
    require(recording.inputs_[i]._version() == versions[i], fmt::format("inputs[{}]", i),
            "left as it is by the model", "an in-place write: let the model work on a copy");
  }
  return recording;
}

void FrozenModel::check_rows(const Recording& recording, const at::Tensor& rows) const {
  check_recorded_here(recording);
  check_shape("rows", rows, {-1});
  check_dtype("rows", rows, at::kLong);
  const int64_t size = recording.output().dim() > 0 ? recording.output().size(0) : 0;
  const int64_t least = rows.min().item<int64_t>(), largest = rows.max().item<int64_t>();
  require(least >= 0 && largest < size, "rows", fmt::format("in [0, {})", size),
          least < 0 ? least : largest);
}

Recording FrozenModel::select_rows(const Recording& recording, const at::Tensor& rows,
                                   const std::vector<std::string>& sites,
                                   const std::vector<int64_t>& axes) const {
  check_rows(recording, rows);
  require(axes.empty() || axes.size() == recording.inputs().size(), "axes",
          fmt::format("none, or one for each of {} inputs", recording.inputs().size()),
          axes.size());
  const int64_t size = recording.output().size(0);
  at::NoGradGuard no_grad;
  const auto selected = [&](const std::string& name, const at::Tensor& tensor, int64_t axis = 0) {
    if (axis == Batch::kShared) return tensor;
    require(axis >= 0 && tensor.dim() > axis && tensor.size(axis) == size, name,
            fmt::format("of {} examples, as the output", size), shape_string(tensor.sizes()));
    return tensor.index_select(axis, rows);
  };
  Recording result;
  result.model_ = id_;
  result.output_ = selected("output", recording.output());
  for (size_t i = 0; i < recording.inputs().size(); ++i) {
    result.inputs_.push_back(
        selected(fmt::format("inputs[{}]", i), recording.inputs()[i], axes.empty() ? 0 : axes[i]));
  }
  for (const std::string& site : sites) {
    result.states_[site] = selected(fmt::format("state at '{}'", site), recording.state(site));
  }
  if (!recording.memory_) return result;
  GivingTap tap(result.states_);
  Pass pass{result.inputs_, tap, in_order(sites)};
  carry(pass);
  result.memory_ = std::move(pass.memory);
  return result;
}

Recording FrozenModel::rows_of_whole(const Recording& recording, const at::Tensor& rows,
                                     const std::vector<std::string>& sites) const {
  check_rows(recording, rows);
  Recording result;
  result.model_ = id_;
  result.output_ = recording.output().index_select(0, rows);
  result.inputs_ = recording.inputs();
  for (const std::string& site : sites) {
    const at::Tensor& state = recording.state(site);
    require(state.dim() > 0 && state.size(0) == recording.output().size(0),
            fmt::format("state at '{}'", site),
            fmt::format("of {} examples, as the output", recording.output().size(0)),
            shape_string(state.sizes()));
    result.states_[site] = state.index_select(0, rows);
  }
  result.whole_ = std::make_shared<const Recording>(recording);
  result.rows_ = rows;
  return result;
}

// Pass k has the k-th occurrence of each row, so that a pass has an example once at most.
at::Tensor FrozenModel::resume_whole(const Recording& recording,
                                     const std::vector<Replacement>& replacements) const {
  const at::Tensor rows = recording.rows_.to(at::kCPU).contiguous();
  std::vector<std::vector<int64_t>> passes;
  std::map<int64_t, size_t> seen;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const size_t pass = seen[rows.data_ptr<int64_t>()[i]]++;
    if (pass == passes.size()) passes.emplace_back();
    passes[pass].push_back(i);
  }
  std::vector<at::Tensor> outputs, places;
  for (const std::vector<int64_t>& pass : passes) {
    const at::Tensor place = at::tensor(pass, at::kLong).to(recording.rows_.device());
    const at::Tensor example = recording.rows_.index_select(0, place);
    std::vector<Replacement> whole;
    for (const auto& [site, state] : replacements) {
      whole.push_back({site, recording.whole_->state(site).index_copy(
                                 0, example, state.index_select(0, place))});
    }
    outputs.push_back(resume(*recording.whole_, std::move(whole)).index_select(0, example));
    places.push_back(place);
  }
  return at::cat(outputs).index_select(0, at::cat(places).argsort());
}

at::Tensor FrozenModel::resume(const Recording& recording, const std::string& site,
                               const at::Tensor& state) const {
  return resume(recording, {{site, state}});
}

at::Tensor FrozenModel::resume(const Recording& recording,
                               std::vector<Replacement> replacements) const {
  check_recorded_here(recording);
  require(!replacements.empty(), "replacements", "at least one", "none");
  std::vector<std::string> names;
  for (const Replacement& replacement : replacements) {
    const Site& site = this->site(replacement.site);
    names.push_back(site.name);
    const std::string name = fmt::format("state at '{}'", site.name);
    require(replacement.state.defined(), name, "defined", "an undefined tensor");
    if (recording.has(site.name)) {
      check_shape(name, replacement.state, recording.state(site.name).sizes());
      check_dtype(name, replacement.state, recording.state(site.name).scalar_type());
    }
  }
  if (recording.whole_) return resume_whole(recording, replacements);
  // Without a state that asks for gradients the pass is the one that was recorded, mode and all:
  // some kernels give other bits where gradients may be asked for.
  const bool gradients = std::any_of(replacements.begin(), replacements.end(),
                                     [](const auto& r) { return r.state.requires_grad(); });
  const c10::AutoGradMode mode(gradients && c10::GradMode::is_enabled());
  ReplacingTap tap(replacements);
  Pass pass{recording.inputs_, tap, in_order(names), recording.memory_};
  const at::Tensor output = resume_from(pass);
  tap.check_all_replaced();
  return output;
}

c10::Device FrozenModel::device() const {
  const auto all = tensors();
  return all.empty() ? c10::Device(c10::kCPU) : all.begin()->second.device();
}

std::string FrozenModel::fingerprint() const {
  std::string hashes;
  for (const auto& [name, tensor] : tensors()) {
    hashes += fmt::format("{} {} {}", name, c10::toString(tensor.scalar_type()),
                          shape_string(tensor.sizes()));
    for (const at::Tensor& part : dense_parts(tensor.detach())) {
      const at::Tensor data = part.to(at::kCPU).contiguous();
      hashes +=
          fmt::format(" {}", sha1_of({static_cast<const char*>(data.data_ptr()), data.nbytes()}));
    }
    hashes += "\n";
  }
  return sha1_of(hashes);
}

}  // namespace diffmask
