#pragma once
/// \file
/// Encoders of the BERT family, read from a Hugging Face folder (config.json; model.safetensors or the
/// shards of model.safetensors.index.json):
/// BERT (Devlin et al. 2019; MiniLM is one), RoBERTa (Liu et al. 2019), DistilBERT (Sanh et al.
/// 2019).
///
///     w_t = E[x_t],   h_0 = norm(w + P[position] + S[type])
///     a_l = norm(h_l + O attention(Q h_l, K h_l, V h_l)),   h_{l+1} = norm(a_l + W2 gelu(W1 a_l))
///     classification  y = C tanh(D h_L[first] + d) + c       (DistilBERT: max(0, .), not tanh)
///     span            y_t = C h_L[t] + c,  two numbers: the logits of a start and of an end at t
///
/// where every matrix has its bias, and in each head attention(q, k, v) =
/// softmax(q k^T / sqrt(H / heads)) v, over the positions where the mask is true.
///
///     const auto net = load_bert("models/sst2", {.classes = 2});
///     const auto model = staged(net);
///     const Recording recording = model->record({ids, mask}, {"layer.3"});

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
  int64_t padding = 0;          ///< the id of padding; RoBERTa counts positions from padding + 1,
                                ///< skipping this id
  double norm_epsilon = 1e-12;  ///< > 0
  /// Rates of dropout in training mode, each in [0, 1).
  double dropout = 0.1;            ///< after the embeddings and each sublayer
  double attention_dropout = 0.1;  ///< of the attention weights
  double head_dropout = 0.1;       ///< before C in a classification

  /// The largest number of ids in one text.
  int64_t longest() const;
  void validate() const;

  /// From the folder's config.json. FileError names a field that is missing or of the wrong type,
  /// an unknown model type or activation, and a size that breaks its rule.
  static BertConfig read(const std::string& folder);
};

struct BertHead {
  enum class Kind { classification, span };

  Kind kind = Kind::classification;
  int64_t classes = 2;  ///< >= 1; ignored for a span
};

/// In evaluation mode the net is frozen: gradients flow to states but not to parameters, which
/// halves the cost of a backward pass. In training mode they flow to both.
class Bert : public torch::nn::Module {
 public:
  /// Matrices are drawn from N(0, 0.02), biases are 0. Weights and dropout draw from the generator.
  Bert(BertConfig config, BertHead head, at::Generator generator);

  /// Shapes: ids (B, T) int64 -> (B, T, H).
  at::Tensor embed_words(const at::Tensor& ids) const;
  /// h_0. Shapes: words (B, T, H), ids (B, T); types (B, T) int64, optional; if undefined, all 0.
  at::Tensor embed(const at::Tensor& words, const at::Tensor& ids, const at::Tensor& types) const;
  /// h_{l+1} from h_l. Shapes: state (B, T, H); mask (B, T) bool, true at least once in each row.
  at::Tensor layer(int64_t number, const at::Tensor& state, const at::Tensor& mask) const;
  /// The head. Shapes: state (B, T, H) -> (B, classes); for a span (B, T, 2), start before end,
  /// with -inf where the mask is false.
  at::Tensor decide(const at::Tensor& state, const at::Tensor& mask) const;
  /// The last layer and `decide`, from h_{L-1}. A classification needs the last layer at the first
  /// position only, where it costs little more than its keys and values.
  at::Tensor conclude(const at::Tensor& state, const at::Tensor& mask) const;
  /// The whole net. Inputs: ids, mask and, optionally, types.
  at::Tensor forward(const Inputs& inputs) const;

  const BertConfig& config() const { return config_; }
  const BertHead& head() const { return head_; }

 private:
  struct Affine;  // a matrix and its bias, or a norm's gain and bias
  struct Layer;

  Bert(BertConfig config, BertHead head);  // leaves matrices uninitialised
  void draw(const std::string& module);    // the matrices of the parts whose name begins so
  void fill(const Safetensors& file);
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

/// A trained model, read from the folder and in evaluation mode; F16 and BF16 become float32.
/// FileError names a tensor that is missing or whose shape is not what config.json says. It has no
/// generator, so it can be explained but not trained.
std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head);

/// A model to be fine-tuned: the head is read from the folder as far as it is there (D; C, if it
/// has this number of classes); the rest of it, and dropout, are drawn from the generator.
std::shared_ptr<Bert> load_bert(const std::string& folder, BertHead head, at::Generator generator);

/// As a staged model with inputs ids, mask and, optionally, types. Sites "word_embeddings",
/// "embeddings", "layer.0", "layer.1", ..., each of shape (B, T, H).
std::shared_ptr<StagedModel> staged(std::shared_ptr<Bert> net);

}  // namespace diffmask
