#include "diffmask/zoo/nets/bert.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/module.h>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/format/safetensors.hpp"
#include "zoo/nets/attention.hpp"

namespace diffmask {

using nlohmann::json;
using Family = BertConfig::Family;

struct Bert::Affine : torch::nn::Module {
  Affine(int64_t outputs, int64_t inputs)
      : weight(register_parameter("weight", at::empty({outputs, inputs}))),
        bias(register_parameter("bias", at::zeros({outputs}))) {}
  explicit Affine(int64_t size)
      : weight(register_parameter("weight", at::ones({size}))),
        bias(register_parameter("bias", at::zeros({size}))) {}

  at::Tensor weight, bias;
};

struct Bert::Layer : torch::nn::Module {
  explicit Layer(const BertConfig& config) {
    const int64_t h = config.hidden_size, wide = config.intermediate_size;
    query = register_module("query", std::make_shared<Affine>(h, h));
    key = register_module("key", std::make_shared<Affine>(h, h));
    value = register_module("value", std::make_shared<Affine>(h, h));
    attended = register_module("attended", std::make_shared<Affine>(h, h));
    attended_norm = register_module("attended_norm", std::make_shared<Affine>(h));
    inner = register_module("inner", std::make_shared<Affine>(wide, h));
    outer = register_module("outer", std::make_shared<Affine>(h, wide));
    outer_norm = register_module("outer_norm", std::make_shared<Affine>(h));
  }

  std::shared_ptr<Affine> query, key, value, attended, attended_norm, inner, outer, outer_norm;
};

namespace {

// A folder's config.json, field by field.
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

// What the files of BERT and RoBERTa, and those of DistilBERT, call a layer's parts.
struct PartName {
  std::string_view own, bert, distilbert;
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

// What the files of a family call a parameter of ours, without the family's prefix.
std::string name_in_file(const std::string& own, Family family) {
  const auto parts = split(own, '.');
  if (parts.size() == 1) return fmt::format("embeddings.{}.weight", own);
  if (parts.size() == 3) {  // layer3.query.weight
    for (const PartName& part : kLayerParts) {
      if (part.own != parts[1]) continue;
      return fmt::format("{}{}.{}.{}", layer_prefix(family), parts[0].substr(5),
                         family == Family::distilbert ? part.distilbert : part.bert, parts[2]);
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

// The tensor's full name in this file: with the family's prefix or without, a norm's parameters
// also under the names that TensorFlow's checkpoints had. Where it is not there, its most likely
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
    if (file.tensors.contains(prefix + candidate)) return prefix + candidate;
    if (file.tensors.contains(candidate)) return candidate;
  }
  const auto first = file.tensors.lower_bound(prefix);
  const bool prefixed = first != file.tensors.end() && first->first.starts_with(prefix);
  const bool of_head = name.starts_with("classifier.") || name.starts_with("pre_classifier.") ||
                       name.starts_with("qa_outputs.");
  return prefixed && !of_head ? prefix + name : name;
}

// The file's tensor of this name, which has to have this shape.
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

// Every size of the config against the weights, before memory is taken for it.
void check_sizes(const Safetensors& file, const BertConfig& config) {
  const int64_t h = config.hidden_size;
  const std::string last = fmt::format("layer{}.", config.layers - 1);
  const auto check = [&](const std::string& own, int64_t rows) {
    const std::string name = name_in_file(own, config.family);
    checked(file, full_name(file, name, config.family), {rows, h});
  };
  check("word_embeddings", config.vocabulary);
  check("position_embeddings", config.positions);
  if (config.types > 0) check("token_type_embeddings", config.types);
  check(last + "query.weight", h);
  check(last + "inner.weight", config.intermediate_size);
}

// A surplus layer would be left out in silence.
void check_no_more_layers(const Safetensors& file, const BertConfig& config) {
  const std::string layer = fmt::format("{}{}.", layer_prefix(config.family), config.layers);
  for (const auto& [name, tensor] : file.tensors) {
    if (name.starts_with(layer) || name.starts_with(prefix_of(config.family) + layer)) {
      throw FileError(file.path, fmt::format("has '{}', but its config.json has {} layers", name,
                                             config.layers));
    }
  }
}

const at::Tensor& ids_of(const Inputs& inputs) {
  require(inputs.size() == 2 || inputs.size() == 3, "inputs", "ids, mask and, optionally, types",
          fmt::format("{} tensors", inputs.size()));
  return inputs[0];
}

at::Tensor types_of(const Inputs& inputs) { return inputs.size() > 2 ? inputs[2] : at::Tensor(); }

}  // namespace

int64_t BertConfig::longest() const {
  return family == Family::roberta ? positions - padding - 1 : positions;
}

void BertConfig::validate() const {
  require(vocabulary >= 1, "vocabulary", ">= 1", vocabulary);
  require(layers >= 1, "layers", ">= 1", layers);
  require(heads >= 1, "heads", ">= 1", heads);
  require(hidden_size >= 1 && hidden_size % heads == 0, "hidden_size",
          fmt::format("a multiple of the {} heads", heads), hidden_size);
  require(intermediate_size >= 1, "intermediate_size", ">= 1", intermediate_size);
  require(types >= 0, "types", ">= 0", types);
  require(padding >= 0 && padding < vocabulary, "padding", "one of the vocabulary", padding);
  require(longest() >= 1, "positions", "enough for one id", positions);
  require(std::isfinite(norm_epsilon) && norm_epsilon > 0, "norm_epsilon", "> 0", norm_epsilon);
  require(dropout >= 0 && dropout < 1, "dropout", "in [0, 1)", dropout);
  require(attention_dropout >= 0 && attention_dropout < 1, "attention_dropout", "in [0, 1)",
          attention_dropout);
  require(head_dropout >= 0 && head_dropout < 1, "head_dropout", "in [0, 1)", head_dropout);
}

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

Bert::Bert(BertConfig config, BertHead head) : config_(config), head_(head) {
  config_.validate();
  const bool spans = head_.kind == BertHead::Kind::span;
  require(spans || head_.classes >= 1, "classes", ">= 1", head_.classes);
  const int64_t h = config_.hidden_size;
  words_ = register_parameter("word_embeddings", at::empty({config_.vocabulary, h}));
  positions_ = register_parameter("position_embeddings", at::empty({config_.positions, h}));
  if (config_.types > 0)
    types_ = register_parameter("token_type_embeddings", at::empty({config_.types, h}));
  embedding_norm_ = register_module("embedding_norm", std::make_shared<Affine>(h));
  for (int64_t i = 0; i < config_.layers; ++i) {
    layers_.push_back(register_module(fmt::format("layer{}", i), std::make_shared<Layer>(config_)));
  }
  if (spans) {
    classifier_ = register_module("qa_outputs", std::make_shared<Affine>(2, h));
  } else {
    pooler_ = register_module("pooler", std::make_shared<Affine>(h, h));
    classifier_ = register_module("classifier", std::make_shared<Affine>(head_.classes, h));
  }
}

Bert::Bert(BertConfig config, BertHead head, at::Generator generator) : Bert(config, head) {
  generator_ = std::move(generator);
  draw("");
}

void Bert::draw(const std::string& module) {
  at::NoGradGuard no_grad;
  for (const auto& item : named_parameters()) {
    if (item.key().starts_with(module) && item.value().dim() == 2) {
      at::Tensor(item.value()).normal_(0.0, 0.02, generator_);
    }
  }
}

void Bert::load(const Safetensors& file) {
  at::NoGradGuard no_grad;
  for (const auto& item : named_parameters()) {
    at::Tensor parameter = item.value();
    const std::string name =
        full_name(file, name_in_file(item.key(), config_.family), config_.family);
    const std::string module = item.key().substr(0, item.key().find('.'));
    const bool replaceable = module == "classifier" || module == "qa_outputs" || module == "pooler";
    if (generator_.defined() && replaceable) {
      const bool other_classes = module == "classifier" && file.tensors.contains(name) &&
                                 file.at(name).dim() > 0 &&
                                 file.at(name).size(0) != parameter.size(0);
      if (other_classes || !file.tensors.contains(name)) {
        if (parameter.dim() == 2) draw(module);
        continue;
      }
    }
    parameter.copy_(checked(file, name, parameter.sizes()));
  }
}

// Detached, a frozen net's parameters cost no gradients of their own, whatever their flags say.
at::Tensor Bert::used(const at::Tensor& parameter) const {
  return is_training() ? parameter : parameter.detach();
}

at::Tensor Bert::linear(const Affine& affine, const at::Tensor& state) const {
  return at::linear(state, used(affine.weight), used(affine.bias));
}

at::Tensor Bert::norm(const Affine& affine, const at::Tensor& state) const {
  return at::layer_norm(state, {config_.hidden_size}, used(affine.weight), used(affine.bias),
                        config_.norm_epsilon);
}

// An undefined one would stand for LibTorch's global generator.
const at::Generator& Bert::generator() const {
  require(generator_.defined(), "generator", "given to load_bert where the net is trained", "none");
  return generator_;
}

at::Tensor Bert::dropped(const at::Tensor& state, double share) const {
  if (!is_training() || share == 0) return state;
  const double kept = 1 - share;
  return state * at::empty_like(state).bernoulli_(kept, generator()).div_(kept);
}

at::Tensor Bert::embed_words(const at::Tensor& ids) const {
  check_shape("ids", ids, {-1, -1});
  check_dtype("ids", ids, at::kLong);
  require(ids.size(1) <= config_.longest(), "ids",
          fmt::format("of at most {} positions", config_.longest()), ids.size(1));
  const int64_t least = ids.min().item<int64_t>(), largest = ids.max().item<int64_t>();
  require(least >= 0 && largest < config_.vocabulary, "ids",
          fmt::format("in [0, {})", config_.vocabulary), least < 0 ? least : largest);
  return at::embedding(used(words_), ids);
}

at::Tensor Bert::embed(const at::Tensor& words, const at::Tensor& ids,
                       const at::Tensor& types) const {
  check_shape("words", words, {ids.size(0), ids.size(1), config_.hidden_size});
  at::Tensor state;
  if (config_.family == Family::roberta) {
    const at::Tensor counted = ids.ne(config_.padding).to(at::kLong);
    state = words + at::embedding(used(positions_), counted.cumsum(1) * counted + config_.padding);
  } else {
    state = words + used(positions_).slice(0, 0, ids.size(1));
  }
  if (types.defined()) {
    require(config_.types > 0, "types", "left out for DistilBERT", shape_string(types.sizes()));
    check_shape("types", types, ids.sizes());
    check_dtype("types", types, at::kLong);
    require(types.min().item<int64_t>() >= 0 && types.max().item<int64_t>() < config_.types,
            "types", fmt::format("in [0, {})", config_.types), types.max().item<int64_t>());
    state = state + at::embedding(used(types_), types);
  } else if (config_.types > 0) {
    state = state + used(types_)[0];
  }
  return dropped(norm(*embedding_norm_, state), config_.dropout);
}

at::Tensor Bert::layer(int64_t number, const at::Tensor& state, const at::Tensor& mask) const {
  return layer_at(state, number, state, mask);
}

// The layer's output at some of its positions, whose states are `queries` (B, Q, H).
at::Tensor Bert::layer_at(const at::Tensor& queries, int64_t number, const at::Tensor& state,
                          const at::Tensor& mask) const {
  check_shape("state", state, {-1, -1, config_.hidden_size});
  check_shape("mask", mask, {state.size(0), state.size(1)});
  check_dtype("mask", mask, at::kBool);
  at::Tensor hiding = mask;
  if (mask.all().item<bool>()) {
    hiding = at::Tensor();
  } else {
    require(mask.any(1).all().item<bool>(), "mask", "true at one position or more of every row",
            "a row without");
  }
  const auto& layer = *layers_.at(static_cast<size_t>(number));
  // Three products: one with the three matrices on top of each other saves 2 % at 32 x 32 ids.
  const auto heads = [&](const Affine& affine, const at::Tensor& of) {
    return linear(affine, of).view({of.size(0), of.size(1), config_.heads, -1}).transpose(1, 2);
  };
  const double share = is_training() ? config_.attention_dropout : 0.0;
  const at::Tensor seen =
      attention(heads(*layer.query, queries), heads(*layer.key, state), heads(*layer.value, state),
                hiding, share, share > 0 ? generator() : generator_)
          .transpose(1, 2)
          .reshape(queries.sizes());
  // In place where no gradient is asked for, since new memory costs more than the sum.
  const bool in_place = !at::GradMode::is_enabled();
  const auto residual = [&](const Affine& affine, const at::Tensor& of, const at::Tensor& to) {
    const at::Tensor y = dropped(linear(affine, of), config_.dropout);
    return in_place ? y.add_(to) : y + to;
  };
  const at::Tensor attended = norm(*layer.attended_norm, residual(*layer.attended, seen, queries));
  at::Tensor inner = linear(*layer.inner, attended);
  inner = in_place ? at::gelu_(inner) : at::gelu(inner);
  return norm(*layer.outer_norm, residual(*layer.outer, inner, attended));
}

at::Tensor Bert::decide(const at::Tensor& state, const at::Tensor& mask) const {
  if (head_.kind == BertHead::Kind::span) {
    return linear(*classifier_, state).masked_fill(mask.logical_not().unsqueeze(2), -INFINITY);
  }
  at::Tensor first = state.select(1, 0);
  if (config_.family == Family::roberta) first = dropped(first, config_.head_dropout);
  const at::Tensor pooled = linear(*pooler_, first);
  const at::Tensor active = config_.family == Family::distilbert ? pooled.relu() : pooled.tanh();
  return linear(*classifier_, dropped(active, config_.head_dropout));
}

at::Tensor Bert::conclude(const at::Tensor& state, const at::Tensor& mask) const {
  const bool first = head_.kind == BertHead::Kind::classification;
  const at::Tensor queries = first ? state.narrow(1, 0, 1) : state;
  return decide(layer_at(queries, config_.layers - 1, state, mask), mask);
}

at::Tensor Bert::forward(const Inputs& inputs) const {
  at::Tensor state = embed(embed_words(ids_of(inputs)), inputs[0], types_of(inputs));
  for (int64_t i = 0; i + 1 < config_.layers; ++i) state = layer(i, state, inputs[1]);
  return conclude(state, inputs[1]);
}

std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head) {
  return load_bert(folder, head, at::Generator());
}

std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head, at::Generator generator) {
  const BertConfig config = BertConfig::read(folder);
  const Safetensors file = load_safetensors(folder + "/model.safetensors");
  check_sizes(file, config);
  check_no_more_layers(file, config);
  const std::shared_ptr<Bert> net(new Bert(config, head));
  net->generator_ = std::move(generator);
  net->load(file);
  net->eval();
  return net;
}

std::shared_ptr<StagedModel> staged(std::shared_ptr<Bert> net) {
  require(net != nullptr, "net", "a net", "a null pointer");
  std::vector<Stage> stages = {
      {"word_embeddings",
       [net](const at::Tensor&, const Inputs& x) { return net->embed_words(ids_of(x)); }},
      {"embeddings",
       [net](const at::Tensor& h, const Inputs& x) { return net->embed(h, x[0], types_of(x)); }}};
  for (int64_t i = 0; i < net->config().layers; ++i) {
    stages.push_back({fmt::format("layer.{}", i), [net, i](const at::Tensor& h, const Inputs& x) {
                        return net->layer(i, h, x[1]);
                      }});
  }
  stages.back().finish = [net](const at::Tensor& h, const Inputs& x) {
    return net->conclude(h, x[1]);
  };
  stages.push_back(
      {"head", [net](const at::Tensor& h, const Inputs& x) { return net->decide(h, x[1]); }});
  return std::make_shared<StagedModel>(net, std::move(stages));
}

}  // namespace diffmask
