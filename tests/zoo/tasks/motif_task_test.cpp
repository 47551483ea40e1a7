#include "diffmask/zoo/tasks/motif_task.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/model/tapped.hpp"

namespace diffmask {
namespace {

TEST(MotifTaskTest, HasASplitAndATrainedNet) {
  const MotifTask task = train_motif_task("ba-shapes", {.epochs = 2, .seed = 1});
  std::set<int64_t> all;
  for (const auto* part : {&task.training, &task.validation, &task.test}) {
    all.insert(part->begin(), part->end());
  }
  EXPECT_EQ(static_cast<int64_t>(all.size()), task.motifs.graph.nodes()) << "each node once";
  EXPECT_EQ(task.validation.size(), 70u);
  EXPECT_EQ(task.test.size(), 70u);
  const auto motif_nodes = task.motifs.motif_nodes();
  for (const int64_t node : task.in_motifs(task.test)) {
    EXPECT_NE(std::find(motif_nodes.begin(), motif_nodes.end(), node), motif_nodes.end());
  }
  EXPECT_GE(task.summary.epoch, 1);
  EXPECT_GT(task.accuracy(task.training), 0.3) << "the base is 3 of 7 nodes";
}

TEST(MotifTaskTest, AttachedNodesJoinTheBase) {
  const MotifTask task = train_motif_task("tree-cycles", {.epochs = 1});
  const auto attached = task.attached_nodes();
  EXPECT_EQ(attached.size(), 80u) << "one per ring";
  const at::Tensor& edges = task.motifs.graph.edges;
  for (const int64_t node : attached) {
    const at::Tensor sources = edges[0].masked_select(edges[1].eq(node));
    EXPECT_TRUE(task.motifs.node_motif.index_select(0, sources).lt(0).any().item<bool>()) << node;
  }
}

// At its last site it gives true edges the score `sign`, and all others 0.
class Oracle : public Attributor {
 public:
  Oracle(const MotifTask& task, const NodeDataset& data, double sign)
      : task_(task), data_(data), sign_(sign) {}
  Attribution attribute(const Batch& batch) const override {
    std::vector<int64_t> examples;
    for (int64_t i = 0; i < batch.size(); ++i) {
      examples.push_back(batch.examples[i].item<int64_t>());
    }
    const at::Tensor truth = task_.motifs.truth(data_, examples).unsqueeze(2);
    const at::Tensor scores = at::cat({at::zeros_like(truth), truth}, 2).to(at::kFloat) * sign_;
    return {{"first", "edge"}, scores, scores.gt(0), batch.mask};
  }

 private:
  const MotifTask& task_;
  const NodeDataset& data_;
  double sign_;
};

TEST(MotifTaskTest, ScoresTheEdgesOfMotifsAtTheLastSite) {
  const MotifTask task = train_motif_task("tree-cycles", {.epochs = 1});
  const auto nodes = task.motifs.motif_nodes();
  const NodeDataset data(task.motifs.graph, {nodes.begin(), nodes.begin() + 40}, /*hops=*/3);
  const MotifScore right = score_motifs(task, data, Oracle(task, data, 1));
  EXPECT_EQ(right.auc, 1);
  EXPECT_EQ(right.average_precision, 1);
  const MotifScore wrong = score_motifs(task, data, Oracle(task, data, -1));
  EXPECT_EQ(wrong.auc, 0);
  EXPECT_LT(wrong.average_precision, 1);
  EXPECT_EQ(score_motifs(task, data, Oracle(task, data, 0)).auc, 0.5) << "equal scores";
}

TEST(MotifTaskTest, ItsExplainerFitsItsNet) {
  const MotifTask task = train_motif_task("ba-shapes", {.epochs = 1});
  const NodeDataset data(task.motifs.graph, task.in_motifs(task.validation), /*hops=*/3);
  const auto model = tapped(task.net, data.batch({0}).inputs);
  DiffMask method(model, motif_explainer());
  EXPECT_EQ(method.fit(data, data, {.steps = 1, .recipe = {.warm_up = 0}}).steps, 1);
  EXPECT_TRUE(score_motifs(task, data, method).auc >= 0);
}

}  // namespace
}  // namespace diffmask
