#include "diffmask/zoo/nets/weights.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/format/safetensors.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

torch::nn::Sequential layers() {
  return torch::nn::Sequential(torch::nn::Linear(3, 4), torch::nn::BatchNorm1d(4));
}

std::map<std::string, at::Tensor> copies(const torch::nn::Sequential& net) {
  std::map<std::string, at::Tensor> all;
  for (const auto& item : net->named_parameters()) all[item.key()] = item.value().detach().clone();
  for (const auto& item : net->named_buffers()) all[item.key()] = item.value().clone();
  return all;
}

bool same(const std::map<std::string, at::Tensor>& a, const std::map<std::string, at::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.equal(y.second);
  });
}

TEST(WeightsTest, LoadsWhatItSaved) {
  const TemporaryFolder folder;
  auto saved = layers(), loaded = layers();
  saved->forward(at::arange(15.0).view({5, 3}));  // moves the buffers
  save_weights(*saved, folder / "a.safetensors");
  EXPECT_FALSE(same(copies(saved), copies(loaded)));
  load_weights(*loaded, folder / "a.safetensors");
  EXPECT_TRUE(same(copies(saved), copies(loaded)));
  EXPECT_EQ(copies(loaded).size(), 7u) << "2 of the linear map, 5 of the norm with its buffers";
  for (const at::Tensor& parameter : loaded->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

TEST(WeightsTest, RefusesAnotherModulesFileAndLeavesTheModule) {
  const TemporaryFolder folder;
  auto net = layers();
  const auto before = copies(net);
  const auto load = [&](const std::function<void(std::map<std::string, at::Tensor>&)>& edit) {
    return [&, edit] {
      auto tensors = copies(layers());
      edit(tensors);
      save_safetensors(folder / "a", tensors);
      load_weights(*net, folder / "a");
    };
  };
  using Tensors = std::map<std::string, at::Tensor>;
  expect_refused<FileError>({
      {"missing", load([](Tensors& t) { t.erase("1.weight"); }),
       "has no tensor '1.weight' (nearest: 0.weight"},
      {"a buffer missing", load([](Tensors& t) { t.erase("1.running_var"); }), "'1.running_var'"},
      {"surplus", load([](Tensors& t) { t["2.weight"] = at::zeros({1}); }),
       "tensor '2.weight' is not one of the module's"},
      {"shape", load([](Tensors& t) { t["1.bias"] = at::zeros({5}); }),
       "tensor '1.bias' has to be Float (4), but is Float (5)"},
      {"a shape that broadcasts", load([](Tensors& t) { t["1.bias"] = at::zeros({1}); }), "(1)"},
      {"dtype", load([](Tensors& t) { t["1.bias"] = at::zeros({4}, at::kDouble); }),
       "is Double (4)"},
      {"no file", [&] { load_weights(*net, folder / "no"); }, "cannot be opened"},
  });
  EXPECT_TRUE(same(before, copies(net)));
}

}  // namespace
}  // namespace diffmask
