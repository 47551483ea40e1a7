#include "diffmask/data/batch.hpp"

#include <gtest/gtest.h>

#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

// Two examples of three positions, the second one padded.
Batch good_batch() {
  Batch batch{{at::zeros({2, 3}, at::kLong), at::zeros({2, 5})},
              at::tensor({1, 1, 1, 1, 0, 0}).view({2, 3}).to(at::kBool),
              at::arange(2),
              at::zeros({2})};
  batch.groups = at::tensor({0, 0, 1, 2, -1, -1}, at::kLong).view({2, 3});
  return batch;
}

Batch with(const std::function<void(Batch&)>& edit) {
  Batch batch = good_batch();
  edit(batch);
  return batch;
}

TEST(BatchTest, AcceptsWhatAgrees) {
  EXPECT_NO_THROW(good_batch().validate());
  EXPECT_NO_THROW(
      with([](Batch& b) { b.examples = b.labels = b.groups = at::Tensor(); }).validate());
  EXPECT_EQ(good_batch().size(), 2);
  EXPECT_EQ(Batch().size(), 0);
}

TEST(BatchTest, RefusesWhatDoesNot) {
  struct Edit {
    std::string name;
    std::function<void(Batch&)> edit;
    std::string message;
  };
  const at::TensorOptions boolean(at::kBool);
  const std::vector<Edit> edits = {
      {"no inputs", [](Batch& b) { b.inputs.clear(); }, "batch.inputs has to be at least one"},
      {"no mask", [](Batch& b) { b.mask = at::Tensor(); }, "batch.mask has to be of shape (B, P)"},
      {"mask of one dimension", [](Batch& b) { b.mask = b.mask[0]; }, "of shape (B, P)"},
      {"no example",
       [&](Batch& b) {
         b.mask = at::ones({0, 3}, boolean);
       },
       "at least one example"},
      {"empty sequences",
       [&](Batch& b) {
         b.mask = at::ones({2, 0}, boolean);
       },
       "at least one position"},
      {"mask of numbers", [](Batch& b) { b.mask = b.mask.to(at::kFloat); },
       "batch.mask has to be of dtype Bool"},
      {"all padding", [](Batch& b) { b.mask[1].fill_(false); }, "only padding in row 1"},
      {"undefined input", [](Batch& b) { b.inputs[1] = at::Tensor(); },
       "batch.inputs[1] has to be defined"},
      {"input of more examples",
       [](Batch& b) {
         b.inputs[1] = at::zeros({3, 5});
       },
       "batch.inputs[1] has to be of 2 examples, as batch.mask, but got (3, 5)"},
      {"input without a batch", [](Batch& b) { b.inputs[0] = at::zeros({}); }, "batch.inputs[0]"},
      {"examples' shape", [](Batch& b) { b.examples = at::arange(3); }, "batch.examples"},
      {"examples' dtype", [](Batch& b) { b.examples = at::zeros({2}); }, "batch.examples"},
      {"labels' shape", [](Batch& b) { b.labels = at::zeros({3}); }, "batch.labels"},
      {"groups' shape", [](Batch& b) { b.groups = b.groups.t(); }, "batch.groups"},
      {"groups' dtype",
       [](Batch& b) {
         b.groups = at::zeros({2, 3});
       },
       "batch.groups"},
      {"group -2", [](Batch& b) { b.groups = b.groups - 1; }, "batch.groups has to be >= -1"},
      {"group of no number", [](Batch& b) { b.groups = b.groups + 1; },
       "batch.groups has to be < 3, the number of positions, but got 3"},
  };
  std::vector<BadInput> table;
  for (const Edit& edit : edits) {
    table.push_back({edit.name, [&] { with(edit.edit).validate(); }, edit.message});
  }
  expect_refused(table);
}

TEST(BatchTest, MovesEveryTensor) {
  const Batch moved = good_batch().to(c10::kMeta);
  for (const at::Tensor& tensor : {moved.inputs.at(0), moved.inputs.at(1), moved.mask,
                                   moved.examples, moved.labels, moved.groups}) {
    EXPECT_TRUE(tensor.is_meta());
  }
  EXPECT_FALSE(with([](Batch& b) { b.groups = at::Tensor(); }).to(c10::kMeta).groups.defined());
}

}  // namespace
}  // namespace diffmask
