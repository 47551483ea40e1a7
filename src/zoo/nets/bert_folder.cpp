// Bert from a Hugging Face folder: config.json, and the names that each family's weights have in
// model.safetensors.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/zoo/nets/bert.hpp"

namespace diffmask {

using nlohmann::json;
using Family = BertConfig::Family;

namespace {

// The fields of a folder's config.json.
class Fields {
 public:
  explicit Fields(std::string path)
      : path_(std::move(path)), fields_(json::parse(read_file(path_), nullptr, false)) {
    if (!fields_.is_object()) throw FileError(path_, "is not a JSON object");
  }

  bool has(const char* name) const { return fields_.contains(name) && !fields_[name].is_null(); }

  template <typename T>
  T get(const char* name, std::optional<T> otherwise = {}) const {
    if (!has(name) && otherwise) return *otherwise;
    if (!has(name)) throw FileError(path_, fmt::format("has no field '{}'", name));
    const json& value = fields_[name];
    if constexpr (std::is_same_v<T, int64_t>) {
      check(value.is_number_integer(), name, "an integer");
    } else if constexpr (std::is_same_v<T, double>) {
      check(value.is_number(), name, "a number");
    } else {
      check(value.is_string(), name, "a text");
    }
    return value.get<T>();
  }

  void check_text(const char* name, const char* known) const {
    check(get<std::string>(name, known) == known, name, fmt::format("'{}'", known));
  }

  void check(bool holds, const char* name, const std::string& rule) const {
    if (holds) return;
    const json& value = fields_[name];
    const std::string shown = value.is_structured() ? value.type_name() : value.dump();
    throw FileError(path_, fmt::format("{} has to be {}, but got {}", name, rule, shown));
  }

 private:
  std::string path_;
  const json fields_;
};

Family family_of(const Fields& fields) {
  const auto type = fields.get<std::string>("model_type");
  if (type == "bert") return Family::bert;
  if (type == "roberta") return Family::roberta;
  fields.check(type == "distilbert", "model_type", "bert, roberta or distilbert");
  return Family::distilbert;
}

const char* prefix_of(Family family) {
  constexpr std::array prefixes = {"bert.", "roberta.", "distilbert."};
  return prefixes[static_cast<size_t>(family)];
}

// The names of a layer's parts in the files of BERT and RoBERTa, and in those of DistilBERT.
struct PartName {
  std::string_view part, bert, distilbert;
};
constexpr std::array<PartName, 8> kLayerParts = {
    {{"query", "attention.self.query", "attention.q_lin"},
     {"key", "attention.self.key", "attention.k_lin"},
     {"value", "attention.self.value", "attention.v_lin"},
     {"attended", "attention.output.dense", "attention.out_lin"},
     {"attended_norm", "attention.output.LayerNorm", "sa_layer_norm"},
     {"inner", "intermediate.dense", "ffn.lin1"},
     {"outer", "output.dense", "ffn.lin2"},
     {"outer_norm", "output.LayerNorm", "output_layer_norm"}}};

std::string layer_prefix(Family family) {
  return family == Family::distilbert ? "transformer.layer." : "encoder.layer.";
}

// The name of one of Bert's parameters in the files of a family, without the family's prefix.
std::string name_in_file(const std::string& parameter, Family family) {
  const auto parts = split(parameter, '.');
  if (parts.size() == 1) return fmt::format("embeddings.{}.weight", parameter);
  if (parts.size() == 3) {  // layer3.query.weight
    for (const PartName& name : kLayerParts) {
      if (name.part != parts[1]) continue;
      return fmt::format("{}{}.{}.{}", layer_prefix(family), parts[0].substr(5),
                         family == Family::distilbert ? name.distilbert : name.bert, parts[2]);
    }
  }
  std::string module = parts[0];
  if (module == "embedding_norm") module = "embeddings.LayerNorm";
  if (module == "pooler") {
    module = family == Family::bert      ? "pooler.dense"
             : family == Family::roberta ? "classifier.dense"
                                         : "pre_classifier";
  } else if (module == "classifier" && family == Family::roberta) {
    module = "classifier.out_proj";
  }
  return fmt::format("{}.{}", module, parts[1]);
}

// The tensor's full name in this file: with or without the family's prefix; a norm's parameters
// also under the names of TensorFlow's checkpoints. If the file does not have it, its most likely
// name.
std::string full_name(const Safetensors& file, const std::string& name, Family family) {
  std::vector<std::string> candidates = {name};
  if (name.find("LayerNorm.weight") != std::string::npos) {
    candidates.push_back(name.substr(0, name.size() - 6) + "gamma");
  } else if (name.find("LayerNorm.bias") != std::string::npos) {
    candidates.push_back(name.substr(0, name.size() - 4) + "beta");
  }
  const std::string prefix = prefix_of(family);
  for (const std::string& candidate : candidates) {
    if (file.has(prefix + candidate)) return prefix + candidate;
    if (file.has(candidate)) return candidate;
  }
  const auto first = file.tensors.lower_bound(prefix);
  const bool prefixed = first != file.tensors.end() && first->first.starts_with(prefix);
  const bool of_head = name.starts_with("classifier.") || name.starts_with("pre_classifier.") ||
                       name.starts_with("qa_outputs.");
  return prefixed && !of_head ? prefix + name : name;
}

// The file's tensor of this name; FileError if it has another shape.
const at::Tensor& checked(const Safetensors& file, const std::string& name, at::IntArrayRef shape) {
  const at::Tensor& stored = file.at(name);
  if (stored.sizes() != shape) {
    throw FileError(file.path,
                    fmt::format("tensor '{}' has to be of shape {} after config.json, "
                                "but got {}",
                                name, shape_string(shape), shape_string(stored.sizes())));
  }
  if (!stored.is_floating_point()) {
    throw FileError(file.path, fmt::format("tensor '{}' has to be of floating point, but got {}",
                                           name, c10::toString(stored.scalar_type())));
  }
  return stored;
}

// Checks every size of the config against the weights, before memory is allocated for it.
void check_sizes(const Safetensors& file, const BertConfig& config) {
  const int64_t h = config.hidden_size;
  const std::string last = fmt::format("layer{}.", config.layers - 1);
  const auto check = [&](const std::string& parameter, int64_t rows) {
    const std::string name = name_in_file(parameter, config.family);
    checked(file, full_name(file, name, config.family), {rows, h});
  };
  check("word_embeddings", config.vocabulary);
  check("position_embeddings", config.positions);
  if (config.types > 0) check("token_type_embeddings", config.types);
  check(last + "query.weight", h);
  check(last + "inner.weight", config.intermediate_size);
}

// Without this check, a surplus layer would be ignored silently.
void check_no_more_layers(const Safetensors& file, const BertConfig& config) {
  const std::string layer = fmt::format("{}{}.", layer_prefix(config.family), config.layers);
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(layer) || name.starts_with(prefix_of(config.family) + layer)) {
      throw FileError(file.path, fmt::format("has '{}', but its config.json has {} layers", name,
                                             config.layers));
    }
  }
}

// The weights of a folder: one file, or the shards that its index names.
Safetensors weights_of(const std::string& folder) {
  const std::string single = folder + "/model.safetensors", index = single + ".index.json";
  if (std::filesystem::exists(single) || !std::filesystem::exists(index)) {
    return load_safetensors(single);
  }
  const json parsed = json::parse(read_file(index), nullptr, false);
  const auto map = parsed.is_object() ? parsed.find("weight_map") : parsed.end();
  if (map == parsed.end() || !map->is_object()) throw FileError(index, "has no object weight_map");
  Safetensors all;
  all.path = index;
  std::map<std::string, Safetensors> shards;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
      throw FileError(index, fmt::format("the file of '{}' has to be a name in the folder", name));
    }
    const auto shard = file.get<std::string>();
    if (!shards.contains(shard)) shards.emplace(shard, load_safetensors(folder + "/" + shard));
    const Safetensors& from = shards.at(shard);
    if (from.unread.contains(name)) {
      all.unread.emplace(name, from.unread.at(name));
    } else {
      all.tensors.emplace(name, from.at(name));
    }
  }
  return all;
}

}  // namespace

BertConfig BertConfig::read(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const Fields fields(path);
  BertConfig config;
  config.family = family_of(fields);
  const bool distil = config.family == Family::distilbert;
  const auto size = [&](const char* name, const char* distilled) {
    return fields.get<int64_t>(distil ? distilled : name);
  };
  config.vocabulary = fields.get<int64_t>("vocab_size");
  config.hidden_size = size("hidden_size", "dim");
  config.layers = size("num_hidden_layers", "n_layers");
  config.heads = size("num_attention_heads", "n_heads");
  config.intermediate_size = size("intermediate_size", "hidden_dim");
  config.positions = fields.get<int64_t>("max_position_embeddings");
  config.types = distil ? 0 : fields.get<int64_t>("type_vocab_size", 2);
  config.padding = fields.get<int64_t>("pad_token_id", config.family == Family::roberta ? 1 : 0);
  if (!distil) config.norm_epsilon = fields.get<double>("layer_norm_eps", 1e-12);
  config.dropout = fields.get<double>(distil ? "dropout" : "hidden_dropout_prob", 0.1);
  config.attention_dropout =
      fields.get<double>(distil ? "attention_dropout" : "attention_probs_dropout_prob", 0.1);
  config.head_dropout = distil ? fields.get<double>("seq_classif_dropout", 0.2)
                               : fields.get<double>("classifier_dropout", config.dropout);
  fields.check_text(distil ? "activation" : "hidden_act", "gelu");
  fields.check_text("position_embedding_type", "absolute");
  try {
    config.validate();
  } catch (const ArgumentError& error) {
    throw FileError(path, error.what());
  }
  return config;
}

void Bert::fill(const Safetensors& file) {
  at::NoGradGuard no_grad;
  for (const auto& item : named_parameters()) {
    at::Tensor parameter = item.value();
    const std::string name =
        full_name(file, name_in_file(item.key(), config_.family), config_.family);
    const std::string module = item.key().substr(0, item.key().find('.'));
    const bool replaceable = module == "classifier" || module == "qa_outputs" || module == "pooler";
    if (generator_.defined() && replaceable) {
      const bool other_classes = module == "classifier" && file.has(name) &&
                                 file.at(name).dim() > 0 &&
                                 file.at(name).size(0) != parameter.size(0);
      if (other_classes || !file.has(name)) {
        if (parameter.dim() == 2) draw(module);
        continue;
      }
    }
    parameter.copy_(checked(file, name, parameter.sizes()));
  }
}

std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head) {
  return load_bert(folder, head, at::Generator());
}

std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head, at::Generator generator) {
  const BertConfig config = BertConfig::read(folder);
  const Safetensors file = weights_of(folder);
  check_sizes(file, config);
  check_no_more_layers(file, config);
  const std::shared_ptr<Bert> net(new Bert(config, head));
  net->generator_ = std::move(generator);
  net->fill(file);
  net->eval();
  return net;
}

}  // namespace diffmask
