#pragma once
/// \file
/// Graph networks whose messages can be masked edge by edge: GCN (Kipf and Welling 2017), GIN (Xu
/// et al. 2019, eps = 0), and the network that GNNExplainer was published with (Ying et al. 2019,
/// public implementation). For an edge e from s to t, where d is the number of edges into a node:
///
///     m_e  = a_e h_s                                                          (site "message.l")
///     h_t' = update(sum of m_e over edges e into t + a_t h_t)
///
///     GCN:  a_e = 1 / sqrt((d_s + 1) (d_t + 1)),  a_t = 1 / (d_t + 1),  update = relu(W . + b)
///     GIN:  a_e = a_t = 1,  update = relu(W2 relu(W1 . + b1) + b2)
///     sum:  a_e = 1,  a_t = 0,  update = relu(y / ||y||), y = W . + b; without relu in layer L
///
///     y    = W [h_1; ...; h_L] + b    of the example's node, which is node 0
///
///     const auto net = std::make_shared<GraphNet>(options, generator);
///     const auto model = tapped(net, data.batch({0}).inputs);   // data: a NodeDataset
///     const Recording recording = model->record(data.batch({3, 4}).inputs, {"edge"});
///
/// Sites, in order; positions are edges except at the first:
///
///     "features"   (B, N, F)      all h before the first layer
///     "edge"       (B, P, 1)      a_e: 0 removes the edge from all layers
///     "ends.l"     (B, P, 3 F_l)  [h_s; h_t; h_0] in layer l: what a probe should read of an edge,
///                                its ends and the example's node
///     "message.l"  (B, P, F_l)     m_e in layer l
///
/// Masking "edge" is GNNExplainer's mask; masking "message.l" is GraphMask's (Schlichtkrull et al.
/// 2021), layer by layer.

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "diffmask/model/tapped.hpp"

namespace torch::nn {
class LinearImpl;
class SequentialImpl;
}  // namespace torch::nn

namespace diffmask {

struct GraphNetOptions {
  enum class Kind { gcn, gin, sum };
  Kind kind = Kind::gcn;
  int64_t features = 0;      ///< F, >= 1
  int64_t classes = 2;       ///< >= 2
  int64_t hidden_size = 20;  ///< >= 1 (Ying et al. 2019: 20)
  int64_t layers = 3;        ///< L, >= 1 (Ying et al. 2019: 3)

  void validate() const;
};

/// Inputs are those of NodeDataset and WholeGraph: features (B, N, F), edges (B, 2, P), mask (B,
/// P), degrees (B, N). Values where the mask is false are not read.
class GraphNet : public torch::nn::Module {
 public:
  /// Initial weights are drawn from the generator.
  GraphNet(GraphNetOptions options, at::Generator generator);

  /// Logits of each example's node. Shape: (B, classes).
  at::Tensor forward(const Inputs& inputs, Tap& tap) const;

  /// Logits of all nodes. Shape: (B, N, classes).
  at::Tensor node_logits(const Inputs& inputs) const;

  const GraphNetOptions& options() const { return options_; }

 private:
  /// [h_1; ...; h_L] of all nodes. Shape: (B, N, L H).
  at::Tensor states(const Inputs& inputs, Tap& tap) const;

  GraphNetOptions options_;
  std::vector<std::shared_ptr<torch::nn::SequentialImpl>> updates_;
  std::shared_ptr<torch::nn::LinearImpl> head_;
};

/// As a tapped model. `example` may be any valid inputs; they are run once to find the sites.
std::shared_ptr<TappedModel> tapped(std::shared_ptr<GraphNet> net, const Inputs& example);

}  // namespace diffmask
