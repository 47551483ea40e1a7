#pragma once
/// \file
/// Small models twice, on the processor and on a device: ready nets, TorchScript and .pt2.

#include <torch/script.h>
#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

#include "diffmask/core/random.hpp"
#include "diffmask/data/batch.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/gru_classifier.hpp"
#include "tests/program/exported_archive.hpp"

namespace diffmask {

struct DeviceModel {
  std::string name;
  std::shared_ptr<const FrozenModel> here, there;
  Batch batch;
  std::vector<std::string> sites;
  std::vector<Positions> positions = {};
};

/// Texts of 3 to 6 words out of 20, and their mask.
inline Batch device_texts() {
  const at::Tensor mask = at::arange(6) < at::tensor({6, 3, 5, 6}).unsqueeze(1);
  const at::Tensor ids = at::randint(1, 20, {4, 6}, make_generator(1), at::kLong);
  return {{ids.masked_fill(mask.logical_not(), 0), mask}, mask, at::arange(4), {}};
}

inline std::vector<DeviceModel> native_models(c10::Device device) {
  const auto gru = [](c10::Device where) {
    auto net = std::make_shared<GruClassifier>(
        GruClassifierOptions{.vocabulary = 20, .embedding_size = 6, .hidden_size = 5},
        make_generator(2));
    net->eval();
    net->to(where);
    return staged(net);
  };
  const auto bert = [](c10::Device where) {
    const BertConfig small{.vocabulary = 20,
                           .hidden_size = 8,
                           .layers = 2,
                           .heads = 2,
                           .intermediate_size = 16,
                           .positions = 12};
    auto net = std::make_shared<Bert>(
        small, BertHead{.kind = BertHead::Kind::classification, .classes = 3}, make_generator(3));
    net->eval();
    net->to(where);
    return staged(net);
  };
  return {{"gru", gru(c10::kCPU), gru(device), device_texts(), {"embedding", "gru.0"}},
          {"bert", bert(c10::kCPU), bert(device), device_texts(), {"embeddings", "layer.0"}}};
}

/// An embedding of words and positions, a recurrent layer, a class: what makes tensors as it runs,
/// on `made_on` ("cpu", "cuda:0"), as a trace holds the device that it was made on.
inline void write_script(const std::string& path, const std::string& made_on) {
  namespace jit = torch::jit;
  const at::Generator generator = make_generator(4);
  const auto leaf = [&](const std::string& name, const std::string& forward,
                        const std::vector<std::pair<std::string, std::vector<int64_t>>>& weights) {
    jit::Module made(name);
    for (const auto& [weight, sizes] : weights) {
      made.register_parameter(weight, at::randn(sizes, generator).mul_(0.5), false);
    }
    made.register_attribute("training", c10::BoolType::get(), false);
    made.define(forward);
    return made;
  };
  jit::Module net("Net");
  net.register_attribute("training", c10::BoolType::get(), false);
  net.register_module("embed", leaf("Embed",
                                    "def forward(self, ids):\n"
                                    "  at = torch.arange(ids.size(1), device=torch.device(\"" +
                                        made_on +
                                        "\"))\n"
                                        "  return torch.embedding(self.words, ids) + "
                                        "torch.embedding(self.places, at)\n",
                                    {{"words", {20, 6}}, {"places", {9, 6}}}));
  net.register_module(
      "lstm", leaf("Lstm",
                   "def forward(self, x):\n"
                   "  h = torch.zeros([1, x.size(0), 5], device=torch.device(\"" +
                       made_on +
                       "\"))\n"
                       "  y, hn, cn = torch.lstm(x, [h, h], [self.w, self.u, self.b, self.c], "
                       "True, 1, 0.0, False, False, True)\n"
                       "  return y\n",
                   {{"w", {20, 6}}, {"u", {20, 5}}, {"b", {20}}, {"c", {20}}}));
  net.register_module("norm", leaf("Norm",
                                   "def forward(self, x):\n"
                                   "  return torch.layer_norm(x, [5], self.g, self.b)\n",
                                   {{"g", {5}}, {"b", {5}}}));
  net.register_module("head", leaf("Head",
                                   "def forward(self, x):\n"
                                   "  return torch.matmul(torch.relu(x).sum([1]), self.w)\n",
                                   {{"w", {5, 3}}}));
  net.define(
      "def forward(self, ids):\n"
      "  x = self.embed.forward(ids)\n"
      "  return self.head.forward(self.norm.forward(self.lstm.forward(x)))\n");
  net.save(path);
}

inline std::vector<DeviceModel> models_from_files(const std::string& folder, c10::Device device) {
  std::vector<DeviceModel> models;
  const auto add = [&](const std::string& name, const std::string& path, const Batch& batch,
                       const std::vector<std::string>& sites,
                       const std::vector<Positions>& positions = {}) {
    models.push_back({name, load_program(path), load_program(path, {.device = device}), batch,
                      sites, positions});
  };
  Batch texts = device_texts();
  texts.inputs = {texts.inputs[0]};
  for (const char* made_on : {"cpu", "cuda:0"}) {
    const std::string path = folder + "/" + (made_on[1] == 'p' ? "cpu" : "cuda") + ".pt";
    write_script(path, made_on);
    add(std::string("TorchScript made on ") + made_on, path, texts, {"embed", "lstm"});
  }
  ExportedArchive archive;
  archive.program["range_constraints"]["s0"]["max_val"] = 1000;
  archive.write(folder + "/net.pt2");
  const at::Tensor x = at::randn({4, 3}, make_generator(5));
  add(".pt2", folder + "/net.pt2", {{x}, at::ones({4, 2}, at::kBool), at::arange(4), {}},
      {"linear"}, {{Positions::Layout::units}});
  return models;
}

}  // namespace diffmask
