#include "diffmask/zoo/nets/bert.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <torch/nn/module.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/core/shape.hpp"
#include "zoo/nets/attention.hpp"

namespace diffmask {

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

// Detached, the parameters of a frozen net get no gradients, whatever their flags say, and so the
// backward pass does not pay for them.
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

// An undefined generator would mean LibTorch's global one.
const at::Generator& Bert::generator() const {
  require(generator_.defined(), "generator", "given to load_bert where the net is trained", "none");
  return generator_;
}

at::Tensor Bert::dropped(const at::Tensor& state, double share) const {
  return is_training() && share > 0 ? dropped_out(state, share, generator()) : state;
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

// The layer's output at Q of its positions, whose states are `queries` (B, Q, H).
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
  // Three products: stacking the three matrices into one product saves only 2 % at 32 x 32 ids.
  const auto heads = [&](const Affine& affine, const at::Tensor& of) {
    return linear(affine, of).view({of.size(0), of.size(1), config_.heads, -1}).transpose(1, 2);
  };
  const double share = is_training() ? config_.attention_dropout : 0.0;
  const at::Tensor seen =
      attention(heads(*layer.query, queries), heads(*layer.key, state), heads(*layer.value, state),
                hiding, share, share > 0 ? generator() : generator_)
          .transpose(1, 2)
          .reshape(queries.sizes());
  // In place if no gradient is needed, as allocating memory costs more than the sum.
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
