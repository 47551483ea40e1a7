#pragma once
/// \file
/// Encoders of the BERT family, read from a Hugging Face folder (config.json, model.safetensors):
/// BERT (Devlin et al. 2019; MiniLM is one), RoBERTa (Liu et al. 2019), DistilBERT (Sanh et al.
/// 2019).
///
///     w_t = E[x_t],   h_0 = norm(w + P[position] + S[type])
///     a_l = norm(h_l + O attention(Q h_l, K h_l, V h_l)),   h_{l+1} = norm(a_l + W2 gelu(W1 a_l))
///     classification  y = C tanh(D h_L[first] + d) + c       (DistilBERT: max(0, .), not tanh)
///     span            y_t = C h_L[t] + c,  two numbers: the logits of a start and of an end at t
///
/// where every matrix has its bias, and attention(q, k, v) = softmax(q k^T / sqrt(H / heads)) v a
/// head, over the positions of the mask.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/model/staged.hpp"

namespace diffmask {

struct Safetensors;

/// The sizes of config.json; the defaults are those of BERT base.
struct BertConfig {
  enum class Family { bert, roberta, distilbert };

  Family family = Family::bert;
  int64_t vocabulary = 30522;        ///< >= 1
  int64_t hidden_size = 768;         ///< H, a multiple of the heads
  int64_t layers = 12;               ///< L, >= 1
  int64_t heads = 12;                ///< >= 1
  int64_t intermediate_size = 3072;  ///< >= 1
  int64_t positions = 512;           ///< rows of P, >= 1
  int64_t types = 2;                 ///< rows of S, >= 0; DistilBERT has none
  int64_t padding = 0;          ///< RoBERTa: positions count from padding + 1, over ids that differ
  double norm_epsilon = 1e-12;  ///< > 0
  double dropout = 0.1;         ///< after embeddings and sublayers while training, in [0, 1)
  double attention_dropout = 0.1;  ///< of attention's weights while training, in [0, 1)
  double head_dropout = 0.1;       ///< before a classification's C while training, in [0, 1)

  /// The most ids of one text.
  int64_t longest() const;
  void validate() const;

  /// From the folder's config.json; FileError names a field that is missing or ill-typed, a model
  /// type or an activation that is not known, and a size that breaks its rule.
  static BertConfig read(const std::string& folder);
};

struct BertHead {
  enum class Kind { classification, span };

  Kind kind = Kind::classification;
  int64_t classes = 2;  ///< >= 1; a span has no classes
};

/// In evaluation mode the net is frozen: gradients flow to states, none to parameters, which halves
/// the cost of a pass backward. In training mode they flow to both.
class Bert : public torch::nn::Module {
 public:
  /// Matrices from N(0, 0.02), biases 0. These and dropout are drawn from the generator.
  Bert(BertConfig config, BertHead head, at::Generator generator);

  /// Shapes: ids (B, T) int64 -> (B, T, H).
  at::Tensor embed_words(const at::Tensor& ids) const;
  /// h_0. Shapes: words (B, T, H), ids (B, T); types (B, T) int64, optional: 0 everywhere.
  at::Tensor embed(const at::Tensor& words, const at::Tensor& ids, const at::Tensor& types) const;
  /// h_{l+1} of h_l. Shapes: state (B, T, H), mask (B, T) bool, true at one position or more a row.
  at::Tensor layer(int64_t number, const at::Tensor& state, const at::Tensor& mask) const;
  /// Shapes: state (B, T, H) -> (B, classes), or a span's (B, T, 2), start before end, with -inf
  /// where the mask is false.
  at::Tensor decide(const at::Tensor& state, const at::Tensor& mask) const;
  /// The last layer and `decide`, of h_{L-1}: for a classification at the first position alone,
  /// which leaves of that layer little more than its keys and values.
  at::Tensor conclude(const at::Tensor& state, const at::Tensor& mask) const;
  /// All of it. Inputs: ids, mask, and types if there are any.
  at::Tensor forward(const Inputs& inputs) const;

  const BertConfig& config() const { return config_; }
  const BertHead& head() const { return head_; }

 private:
  struct Affine;  // a matrix and its bias, or a norm's gain and its bias
  struct Layer;

  Bert(BertConfig config, BertHead head);  // matrices are yet to be filled
  void draw(const std::string& module);    // its matrices; "": all
  void load(const Safetensors& file);
  friend std::shared_ptr<Bert> load_bert(const std::string&, BertHead, at::Generator);
  at::Tensor layer_at(const at::Tensor& queries, int64_t number, const at::Tensor& state,
                      const at::Tensor& mask) const;
  at::Tensor linear(const Affine& affine, const at::Tensor& state) const;
  at::Tensor norm(const Affine& affine, const at::Tensor& state) const;
  const at::Generator& generator() const;
  at::Tensor dropped(const at::Tensor& state, double share) const;
  at::Tensor used(const at::Tensor& parameter) const;

  BertConfig config_;
  BertHead head_;
  at::Generator generator_;
  at::Tensor words_, positions_, types_;
  std::shared_ptr<Affine> embedding_norm_, pooler_, classifier_;
  std::vector<std::shared_ptr<Layer>> layers_;
};

/// A trained model, all of it from the folder, in evaluation mode; F16 and BF16 become float32.
/// FileError names a tensor that is missing, or of another shape than config.json says. It has no
/// generator, so it can be explained but not trained.
std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head);

/// A model to be fine-tuned: what the folder has of the head (D; C, if it is for as many classes),
/// the rest drawn anew from the generator, as dropout is.
std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head, at::Generator generator);

/// As a staged model of inputs ids, mask and, optionally, types; sites "word_embeddings",
/// "embeddings", "layer.0", ..., each (B, T, H).
std::shared_ptr<StagedModel> staged(std::shared_ptr<Bert> net);

}  // namespace diffmask
