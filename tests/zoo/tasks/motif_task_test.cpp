#include "diffmask/zoo/tasks/motif_task.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

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

}  // namespace
}  // namespace diffmask
