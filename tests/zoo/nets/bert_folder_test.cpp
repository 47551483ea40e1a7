// Bert read from Hugging Face folders.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "tests/bad_input.hpp"
#include "tests/zoo/nets/bert_folder.hpp"

namespace diffmask {
namespace {

using nlohmann::json;
using BertFolderTest = BertFolder;

TEST_F(BertFolderTest, ReadsOtherNamesAndHalfPrecision) {
  const Inputs inputs = small_inputs();
  const at::Tensor expected = output_of(*load(), inputs);
  Tensors bare;
  for (const auto& [name, tensor] : small_tensors()) {
    std::string renamed = name.starts_with("bert.") ? name.substr(5) : name;
    if (const size_t at = renamed.find("LayerNorm.weight"); at != std::string::npos)
      renamed.replace(at + 10, 6, "gamma");
    if (const size_t at = renamed.find("LayerNorm.bias"); at != std::string::npos)
      renamed.replace(at + 10, 4, "beta");
    bare[renamed] = tensor;
  }
  write_folder(folder_.path(), small_config(), bare);
  EXPECT_TRUE(output_of(*load(), inputs).equal(expected));
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    for (auto& [name, tensor] : bare) {
      if (tensor.is_floating_point()) tensor = tensor.to(dtype);
    }
    write_folder(folder_.path(), small_config(), bare);
    const at::Tensor output = output_of(*load(), inputs);
    EXPECT_EQ(output.scalar_type(), at::kFloat);
    EXPECT_LT(largest_difference(output, expected), 0.1);
  }
}

// The weights in two files, and an index of them.
TEST_F(BertFolderTest, ReadsShards) {
  const Inputs inputs = small_inputs();
  const at::Tensor expected = output_of(*load(), inputs);
  const std::vector<std::string> names = {"model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors"};
  std::vector<Tensors> shards(2);
  json map = json::object();
  for (const auto& [name, tensor] : small_tensors()) {
    const size_t which = map.size() % 2;
    shards[which][name] = tensor;
    map[name] = names[which];
  }
  for (size_t i = 0; i < 2; ++i) save_safetensors(folder_ / names[i], shards[i]);
  std::filesystem::remove(folder_ / "model.safetensors");
  const std::string index = folder_ / "model.safetensors.index.json";
  write_file(index, json{{"metadata", json::object()}, {"weight_map", map}}.dump());
  EXPECT_TRUE(output_of(*load(), inputs).equal(expected));
  const std::string first = map.begin().key();
  const auto written = [&](const json& changed) {
    return [&, changed] {
      write_file(index, changed.dump());
      load();
    };
  };
  json outside = map, swapped = map;
  outside[first] = "../" + names[0];
  swapped[first] = names[1];
  expect_refused<FileError>(
      {{"no map", written(json::object()), "has no object weight_map"},
       {"outside", written(json{{"weight_map", outside}}), "has to be a name in the folder"},
       {"another shard", written(json{{"weight_map", swapped}}), "has no tensor '" + first}});
}

TEST_F(BertFolderTest, RefusesBrokenFolders) {
  const std::string query = "bert.encoder.layer.1.attention.self.query.weight";
  using J = json;
  using T = Tensors;
  expect_refused<FileError>({
      {"no folder", [&] { load_bert(folder_ / "no", kClasses); }, "config.json: cannot be opened"},
      {"no weights",
       [&] {
         std::filesystem::create_directory(folder_ / "bare");
         write_file(folder_ / "bare/config.json", small_config().dump());
         load_bert(folder_ / "bare", kClasses);
       },
       "model.safetensors: cannot be opened"},
      {"no JSON",
       [&] {
         write_file(folder_ / "config.json", "{");
         load();
       },
       "is not a JSON object"},
      {"model type", loading([](J& c, T&) { c["model_type"] = "t5"; }),
       "model_type has to be bert, roberta or distilbert, but got \"t5\""},
      {"no model type", loading([](J& c, T&) { c.erase("model_type"); }),
       "has no field 'model_type'"},
      {"a field missing", loading([](J& c, T&) { c.erase("hidden_size"); }),
       "has no field 'hidden_size'"},
      {"a text for a size", loading([](J& c, T&) { c["vocab_size"] = "30"; }),
       "vocab_size has to be an integer, but got \"30\""},
      {"a list for a size", loading([](J& c, T&) { c["vocab_size"] = {30}; }), "but got array"},
      {"half a layer", loading([](J& c, T&) { c["num_hidden_layers"] = 1.5; }),
       "num_hidden_layers has to be an integer, but got 1.5"},
      {"no layer", loading([](J& c, T&) { c["num_hidden_layers"] = 0; }), "layers has to be >= 1"},
      {"heads", loading([](J& c, T&) { c["num_attention_heads"] = 3; }),
       "hidden_size has to be a multiple of the 3 heads, but got 8"},
      {"activation", loading([](J& c, T&) { c["hidden_act"] = "relu"; }),
       "hidden_act has to be 'gelu', but got \"relu\""},
      {"positions", loading([](J& c, T&) { c["position_embedding_type"] = "relative_key"; }),
       "position_embedding_type has to be 'absolute'"},
      {"dropout", loading([](J& c, T&) { c["hidden_dropout_prob"] = 1; }), "in [0, 1), but got 1"},
      {"a tensor missing", loading([&](J&, T& t) { t.erase(query); }),
       "has no tensor '" + query + "' (nearest: "},
      {"no head", loading([](J&, T& t) { t.erase("classifier.weight"); }),
       "has no tensor 'classifier.weight'"},
      {"shape", loading([&](J&, T& t) {
         t[query] = at::zeros({8, 9});
       }),
       "tensor '" + query + "' has to be of shape (8, 8) after config.json, but got (8, 9)"},
      {"another vocabulary", loading([](J& c, T&) { c["vocab_size"] = 31; }),
       "word_embeddings.weight' has to be of shape (31, 8) after config.json, but got (30, 8)"},
      {"a size far beyond memory", loading([](J& c, T&) { c["vocab_size"] = 1'000'000'000'000; }),
       "has to be of shape (1000000000000, 8)"},
      {"layers far beyond memory",
       loading([](J& c, T&) { c["num_hidden_layers"] = 1'000'000'000; }),
       "has no tensor 'bert.encoder.layer.999999999."},
      {"another number of classes", loading([](J&, T& t) {
         t["classifier.weight"] = at::zeros({2, 8});
       }),
       "'classifier.weight' has to be of shape (3, 8)"},
      {"whole numbers", loading([&](J&, T& t) {
         t[query] = at::zeros({8, 8}, at::kLong);
       }),
       "has to be of floating point, but got Long"},
      {"a layer too many", loading([](J& c, T&) { c["num_hidden_layers"] = 1; }),
       "but its config.json has 1 layers"},
      {"a layer too few", loading([](J& c, T&) { c["num_hidden_layers"] = 3; }),
       "has no tensor 'bert.encoder.layer.2."},
  });
}

// What transformers itself computes, on models that tests/reference/bert.py writes.
TEST(BertReferenceTest, GivesTransformersStatesAndGradients) {
  const char* given = std::getenv("DIFFMASK_BERT");
  if (!given) GTEST_SKIP() << "set DIFFMASK_BERT to the folder that tests/reference/bert.py wrote";
  int64_t models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(given)) {
    const std::string path = entry.path();
    SCOPED_TRACE(path);
    const Safetensors reference = load_safetensors(path + "/reference.safetensors");
    const bool has_output = reference.tensors.contains("output");
    const bool spans = has_output && reference.at("output").dim() == 3;
    const auto net = has_output ? load_bert(path, spans ? kSpan : kClasses)
                                : load_bert(path, kClasses, make_generator(0));
    Inputs inputs = {reference.at("ids"), reference.at("mask")};
    if (reference.tensors.contains("types")) inputs.push_back(reference.at("types"));
    const auto model = staged(net);
    const Recording recording = model->record(inputs);
    const at::Tensor padding = inputs[1].logical_not().unsqueeze(2);
    double worst_state = 0, worst_gradient = 0, worst_output = 0;
    for (const std::string& site : model->site_names()) {
      const at::Tensor& state = recording.state(site);
      const at::Tensor difference = (state - reference.at("state/" + site)).masked_fill(padding, 0);
      worst_state = std::max(worst_state, difference.abs().max().item<double>());
      if (!has_output) continue;
      const at::Tensor leaf = state.clone().requires_grad_();
      const at::Tensor output = model->resume(recording, site, leaf);
      const at::Tensor total = output.masked_select(output.ne(-INFINITY)).sum();
      worst_gradient =
          std::max(worst_gradient, largest_difference(torch::autograd::grad({total}, {leaf})[0],
                                                      reference.at("grad/" + site)));
    }
    if (has_output) {
      const at::Tensor mask = spans ? inputs[1].unsqueeze(2) : at::ones({}, at::kBool);
      worst_output = largest_difference(recording.output().masked_select(mask),
                                        reference.at("output").masked_select(mask));
    }
    fmt::print("{}: states {:.2g}, gradients {:.2g}, output {:.2g}\n",
               entry.path().filename().string(), worst_state, worst_gradient, worst_output);
    EXPECT_LT(worst_state, 1e-5);
    EXPECT_LT(worst_gradient, 1e-4);
    EXPECT_LT(worst_output, 1e-5);
    ++models;
  }
  EXPECT_GE(models, 4);
}

}  // namespace
}  // namespace diffmask
