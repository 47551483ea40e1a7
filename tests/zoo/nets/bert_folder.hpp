#pragma once
/// \file
/// A small model of the BERT family as a Hugging Face folder, written anew for each test.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {

using Tensors = std::map<std::string, at::Tensor>;

inline constexpr BertHead kClasses = {BertHead::Kind::classification, 3};
inline constexpr BertHead kSpan = {BertHead::Kind::span};

inline nlohmann::json small_config() {
  return {{"model_type", "bert"},    {"vocab_size", 30},          {"hidden_size", 8},
          {"num_hidden_layers", 2},  {"num_attention_heads", 2},  {"intermediate_size", 12},
          {"type_vocab_size", 2},    {"hidden_act", "gelu"},      {"max_position_embeddings", 16},
          {"layer_norm_eps", 1e-12}, {"hidden_dropout_prob", 0.1}};
}

/// A file's tensors, under the names and with the shapes that transformers gives them.
inline Tensors small_tensors() {
  const at::Generator generator = make_generator(3);
  Tensors tensors;
  const auto draw = [&](const std::string& name, at::IntArrayRef shape) {
    tensors[name] = at::randn(shape, generator) * 0.4;
  };
  const auto affine = [&](const std::string& name, int64_t outputs, int64_t inputs) {
    draw(name + ".weight", {outputs, inputs});
    draw(name + ".bias", {outputs});
  };
  const auto norm = [&](const std::string& name) {
    tensors[name + ".weight"] = 1 + 0.2 * at::randn({8}, generator);
    draw(name + ".bias", {8});
  };
  draw("bert.embeddings.word_embeddings.weight", {30, 8});
  draw("bert.embeddings.position_embeddings.weight", {16, 8});
  draw("bert.embeddings.token_type_embeddings.weight", {2, 8});
  tensors["bert.embeddings.position_ids"] = at::arange(16, at::kLong).unsqueeze(0);
  norm("bert.embeddings.LayerNorm");
  for (const std::string layer : {"bert.encoder.layer.0.", "bert.encoder.layer.1."}) {
    for (const std::string part : {"query", "key", "value"}) {
      affine(layer + "attention.self." + part, 8, 8);
    }
    affine(layer + "attention.output.dense", 8, 8);
    norm(layer + "attention.output.LayerNorm");
    affine(layer + "intermediate.dense", 12, 8);
    affine(layer + "output.dense", 8, 12);
    norm(layer + "output.LayerNorm");
  }
  affine("bert.pooler.dense", 8, 8);
  affine("classifier", 3, 8);
  affine("qa_outputs", 2, 8);
  return tensors;
}

inline void write_folder(const std::string& path, const nlohmann::json& config,
                         const Tensors& tensors) {
  write_file(path + "/config.json", config.dump());
  save_safetensors(path + "/model.safetensors", tensors);
}

/// Texts of 9, 4 and 6 ids.
inline Inputs small_inputs() {
  const at::Tensor mask = at::arange(9) < at::tensor({9, 4, 6}).unsqueeze(1);
  const at::Tensor ids = at::randint(1, 30, {3, 9}, make_generator(1), at::kLong);
  return {ids.masked_fill(mask.logical_not(), 0), mask};
}

inline at::Tensor output_of(const Bert& net, const Inputs& inputs) {
  at::NoGradGuard no_grad;
  return net.forward(inputs);
}

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

class BertFolder : public testing::Test {
 protected:
  BertFolder() { write_folder(folder_.path(), small_config(), small_tensors()); }

  std::shared_ptr<Bert> load(BertHead head = kClasses) const {
    return load_bert(folder_.path(), head);
  }

  // Writes the folder anew with a change, and loads it.
  std::function<void()> loading(
      const std::function<void(nlohmann::json&, Tensors&)>& change) const {
    return [this, change] {
      nlohmann::json config = small_config();
      Tensors tensors = small_tensors();
      change(config, tensors);
      write_folder(folder_.path(), config, tensors);
      load();
    };
  }

  TemporaryFolder folder_;
};

}  // namespace diffmask
