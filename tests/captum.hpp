#pragma once
/// \file
/// The models that tests/reference/captum_values.py makes, with Captum's own values of them.
/// DIFFMASK_CAPTUM names their folder.

#include <gtest/gtest.h>

#include <cstdlib>

#include "diffmask/data/batch.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/program/script.hpp"

namespace diffmask {

struct CaptumModel {
  std::string net, suffix, site;  // suffix of the tensors' names
  Positions positions = {};
  std::shared_ptr<const FrozenModel> model = nullptr;
  Safetensors truth = {};
  Batch batch = {};

  at::Tensor value(const std::string& name) const { return truth.at(name + suffix); }
};

/// Hands each to `test`. Nothing is done where there is no folder.
inline void for_each_captum_model(const std::function<void(const CaptumModel&)>& test) {
  const char* folder = std::getenv("DIFFMASK_CAPTUM");
  if (!folder) GTEST_SKIP() << "DIFFMASK_CAPTUM is not set (see tests/reference/captum_values.py)";
  const std::vector<CaptumModel> models = {
      {"mlp", "", "input"},
      {"cnn", "", "input", {Positions::Layout::image, 1}},
      {"gru", "", "input"},
      {"bert", "", "bert.embeddings"},
      {"bert", "/hidden", "bert.encoder.layer.3"},
  };
  for (CaptumModel each : models) {
    SCOPED_TRACE(each.net + each.suffix);
    const std::string base = std::string(folder) + "/" + each.net;
    each.model = load_script(base + ".ts");
    each.truth = load_safetensors(base + ".safetensors");
    each.batch.inputs = {each.truth.at("input0")};
    if (each.truth.tensors.contains("input1")) {
      each.batch.inputs.push_back(each.truth.at("input1"));
    }
    each.batch.mask = at::ones(each.value("feature_ablation").sizes(), at::kBool);
    test(each);
  }
}

/// max |a - b| / max |b|
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).abs().max() / y.abs().max()).item<double>();
}

}  // namespace diffmask
