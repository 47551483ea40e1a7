#include "diffmask/mask/positions.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/random.hpp"
#include "diffmask/mask/masking.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"

namespace diffmask {
namespace {

using Layout = Positions::Layout;
const Positions kSequence;
const Positions kUnits{Layout::units};
const Positions kCells{Layout::image, 1};
const Positions kPatches{Layout::image, 2};

at::Tensor numbers(std::vector<int64_t> shape) {
  int64_t size = 1;
  for (const int64_t each : shape) size *= each;
  return at::arange(size, at::TensorOptions(at::kDouble)).view(shape);
}

TEST(PositionsTest, ASequencesAreItsRows) {
  const at::Tensor state = numbers({2, 3, 4});
  EXPECT_TRUE(kSequence.features(state).equal(state));
  EXPECT_EQ(kSequence.channels(state), 4);
  EXPECT_EQ(kSequence.expand(numbers({2, 3}), state).sizes(), at::IntArrayRef({2, 3, 1}));
  EXPECT_TRUE(kSequence.expand_vector(numbers({4})).equal(numbers({4})));
}

TEST(PositionsTest, AnImagesAreItsPatchesRowByRow) {
  const at::Tensor state = numbers({2, 3, 4, 6});
  for (const Positions& positions : {kCells, kPatches}) {
    const int64_t p = positions.patch, rows = 4 / p, columns = 6 / p;
    SCOPED_TRACE(fmt::format("patches of {}", p));
    const at::Tensor features = positions.features(state);
    ASSERT_EQ(features.sizes(), at::IntArrayRef({2, rows * columns, 3 * p * p}));
    EXPECT_EQ(positions.channels(state), 3);
    const at::Tensor values = numbers({2, rows * columns});
    const at::Tensor expanded = at::broadcast_to(positions.expand(values, state), state.sizes());
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const at::Tensor cells = state.slice(2, i * p, (i + 1) * p).slice(3, j * p, (j + 1) * p);
        const int64_t t = i * columns + j;
        EXPECT_TRUE(features.select(1, t).equal(cells.flatten(1)));
        const at::Tensor gate = expanded.slice(2, i * p, (i + 1) * p).slice(3, j * p, (j + 1) * p);
        EXPECT_TRUE(gate.eq(values.select(1, t).view({2, 1, 1, 1})).all().item<bool>());
      }
    }
    const at::Tensor vector = numbers({3});
    EXPECT_TRUE(at::broadcast_to(positions.expand_vector(vector), state.sizes())
                    .select(1, 2)
                    .eq(2)
                    .all()
                    .item<bool>());
  }
}

TEST(PositionsTest, AVectorsAreItsUnits) {
  const at::Tensor state = numbers({2, 5});
  EXPECT_TRUE(kUnits.features(state).equal(state.unsqueeze(2)));
  EXPECT_EQ(kUnits.channels(state), 5);
  EXPECT_TRUE(kUnits.expand(state, state).equal(state));
  EXPECT_TRUE(kUnits.expand_vector(state[0]).equal(state[0]));
}

TEST(PositionsTest, ChannelValuesAreThoseThatCount) {
  const at::Tensor mask = at::tensor({1, 0, 0, 0, 1, 1}).view({2, 3}).gt(0);
  const at::Tensor sequence = numbers({2, 3, 2});
  EXPECT_TRUE(kSequence.channel_values(sequence, mask)
                  .equal(at::stack({sequence[0][0], sequence[1][1], sequence[1][2]})));
  const at::Tensor image = numbers({2, 2, 2, 6});  // a row of three patches
  const at::Tensor values = kPatches.channel_values(image, mask);
  EXPECT_EQ(values.sizes(), at::IntArrayRef({12, 2}));
  for (int64_t channel = 0; channel < 2; ++channel) {
    const at::Tensor cells = at::cat(
        {image[0][channel].slice(1, 0, 2).flatten(), image[1][channel].slice(1, 2, 6).flatten()});
    EXPECT_TRUE(std::get<0>(values.select(1, channel).sort()).equal(std::get<0>(cells.sort())));
  }
  EXPECT_TRUE(kUnits.channel_values(numbers({2, 3}), mask).equal(numbers({2, 3})));
}

TEST(PositionsTest, GradientsAgreeWithFiniteDifferences) {
  const at::Tensor image = at::sin(numbers({2, 3, 4, 2})), sequence = at::sin(numbers({2, 3, 4}));
  for (const auto& pair :
       {std::pair(kSequence, sequence), std::pair(kCells, image), std::pair(kPatches, image),
        std::pair(kUnits, at::sin(numbers({2, 3})))}) {
    const Positions& positions = pair.first;
    const at::Tensor& state = pair.second;
    const at::Tensor weights = at::cos(numbers(positions.features(state).sizes().vec()));
    expect_gradient([&](const auto& x) { return (weights * positions.features(x).pow(2)).sum(); },
                    state);
    const at::Tensor z = at::sin(weights.select(2, 0)),
                     vector = at::ones({positions.channels(state)}, at::kDouble);
    const auto cost = [&](const at::Tensor& z, const at::Tensor& vector) {
      return masked(state, positions.expand(z, state), positions.expand_vector(vector))
          .pow(3)
          .sum();
    };
    expect_gradient([&](const auto& x) { return cost(x, vector); }, z);
    expect_gradient([&](const auto& x) { return cost(z, x); }, vector);
  }
}

TEST(PositionsTest, RefusesBadInput) {
  expect_refused({
      {"patch 0",
       [] {
         Positions{Layout::image, 0}.validate();
       },
       "positions.patch has to be >= 1"},
      {"a sequence's patch",
       [] {
         Positions{Layout::sequence, 2}.validate();
       },
       "positions.patch has to be 1 for a sequence, but got 2"},
      {"an image as a sequence",
       [] {
         kSequence.features(at::zeros({1, 2, 3, 4}));
       },
       "state has to be of shape (B, T, F)"},
      {"a sequence as an image",
       [] {
         kCells.features(at::zeros({1, 2, 3}));
       },
       "state has to be of shape (B, C, H, W)"},
      {"a sequence as a vector",
       [] {
         kUnits.features(at::zeros({1, 2, 3}));
       },
       "state has to be of shape (B, P), as its positions are a vector's"},
      {"a vector",
       [] {
         kSequence.channels(at::zeros({2, 3}));
       },
       "but got (2, 3)"},
      {"patches that do not fit",
       [] {
         kPatches.features(at::zeros({1, 2, 4, 5}));
       },
       "that patches of 2 divide, but got (1, 2, 4, 5)"},
  });
}

TEST(GroupsTest, MeanOfEachGroupAndBack) {
  const at::Tensor values = at::tensor({1.0, 5.0, 2.0, 100.0, 3.0, 4.0, 5.0, 6.0}).view({2, 4});
  const at::Tensor groups = at::tensor({0, 2, 0, -1, 1, 1, 1, 0}, at::kLong).view({2, 4});
  const at::Tensor means = group_mean(values, groups);
  EXPECT_TRUE(means.equal(at::tensor({1.5, 0.0, 5.0, 0.0, 6.0, 4.0, 0.0, 0.0}).view({2, 4})));
  EXPECT_TRUE(spread_groups(means, groups)
                  .equal(at::tensor({1.5, 5.0, 1.5, 1.5, 4.0, 4.0, 4.0, 6.0}).view({2, 4})));
}

TEST(GroupsTest, GradientsAgreeWithFiniteDifferences) {
  const at::Tensor groups = at::tensor({0, 2, 0, -1, 1, 1, 1, 0}, at::kLong).view({2, 4});
  const at::Tensor values = at::sin(numbers({2, 4}));
  expect_gradient([&](const auto& x) { return group_mean(x, groups).pow(3).sum(); }, values);
  expect_gradient([&](const auto& x) { return spread_groups(x, groups).pow(3).sum(); }, values);
}

}  // namespace
}  // namespace diffmask
