#include <gtest/gtest.h>
#include <torch/torch.h>

#include "diffmask/core/random.hpp"
#include "diffmask/gate/ready.hpp"
#include "diffmask/probe/ready.hpp"

namespace diffmask {
namespace {

TEST(ReadyPartsTest, GatesAreMadeAgainFromTheirParts) {
  const at::Tensor logits = at::linspace(-4, 4, 9);
  const HardConcrete unusual({.tau = 0.7, .lower = -0.1, .upper = 1.2, .location_bias = 0.5});
  const Bernoulli bernoulli;
  for (const Gate* gate :
       {static_cast<const Gate*>(&unusual), static_cast<const Gate*>(&bernoulli)}) {
    const Part part = gate->part();
    const auto again = named("gate", part.name, gates())(part);
    EXPECT_EQ(again->part(), part);
    EXPECT_TRUE(again->mean(logits).equal(gate->mean(logits))) << part.name;
    EXPECT_TRUE(
        again->sample(logits, make_generator(3)).equal(gate->sample(logits, make_generator(3))));
  }
  EXPECT_FALSE(HardConcrete().mean(logits).equal(unusual.mean(logits))) << "tests nothing";
}

TEST(ReadyPartsTest, ProbesAreMadeAgainFromTheirParts) {
  const ProbeInput input{.features = 6, .capacity = {.examples = 2, .positions = 3}};
  const ProbeStates states{at::randn({2, 3, 6}, make_generator(1)), at::ones({2, 3}, at::kBool),
                           at::arange(2, at::kLong)};
  const ProbeFactory mlp = mlp_probe({.hidden_size = 5, .bound = 2, .layer_norm = true});
  const ProbeFactory table = free_logits({.initial = 1.5, .limit = 3});
  for (const ProbeFactory& factory : {mlp, table}) {
    const ProbeFactory again = named("probe", factory.part.name, probes())(factory.part);
    EXPECT_EQ(again.part, factory.part);
    EXPECT_EQ(again.per_sample, factory.per_sample);
    EXPECT_TRUE(again.make(input, make_generator(4))
                    ->logits(states)
                    .equal(factory.make(input, make_generator(4))->logits(states)))
        << factory.part.name;
  }
  EXPECT_FALSE(mlp.per_sample);
  EXPECT_TRUE(table.per_sample);
}

}  // namespace
}  // namespace diffmask
