// What explainers refuse.
#include <gtest/gtest.h>

#include <limits>
#include <memory>

#include "tests/bad_input.hpp"
#include "tests/mask/explainer_fixture.hpp"

namespace diffmask {
namespace {

TEST_F(ExplainerTest, RefusesBadOptions) {
  using Start = BaselineOptions::Start;
  const auto with = [&](ExplainerOptions options) { return [this, options] { make(options); }; };
  const at::Tensor four = at::zeros({4});
  const Positions image{Positions::Layout::image, 1};
  expect_refused({
      {"unknown site", with({.sites = {"lwo"}}), "'lwo' (nearest: low, "},
      {"site twice", with({.sites = {"low", "low"}}), "sites has to be in execution order"},
      {"sites in reverse", with({.sites = {"high", "low"}}), "but got high, low"},
      {"two layouts for three sites", with({.positions = {{}, {}}}),
       "positions has to be one for all sites or one for each of 3, but got 2"},
      {"sequence as an image", with({.positions = {image}}), "of shape (B, C, H, W)"},
      {"patch 0", with({.positions = {{Positions::Layout::image, 0}}}), "positions.patch"},
      {"no gate", with({.gate = nullptr}), "gate has to be a gate, but got a null pointer"},
      {"gate", [] { HardConcrete({.tau = 0}); }, "tau has to be > 0"},
      {"no probe", with({.probe = {}}), "probe.make has to be a function"},
      {"a probe that is none",
       with({.probe = {.make = [](const ProbeInput&,
                                  const at::Generator&) { return std::shared_ptr<Probe>(); }}}),
       "probe.make has to be a function that gives a probe"},
      {"probe", [] { mlp_probe({.bound = -1}); }, "bound has to be >= 0"},
      {"free logits", [] { free_logits({.limit = 0}); }, "limit has to be > 0"},
      {"no vectors", with({.baseline = {Start::given, {}}}), "baseline.vectors has to be given"},
      {"vectors unasked", with({.baseline = {Start::zero, {four}}}), "with Start::given, and only"},
      {"one vector for three sites", with({.baseline = {Start::given, {four}}}),
       "baseline.vectors has to be one for each of 3 masked sites, but got 1"},
      {"a vector's size", with({.baseline = {Start::given, {four, four, four}}}),
       "baseline.vectors[2] has to be of shape (2), but got (4)"},
  });
}

TEST_F(ExplainerTest, RefusesBadInput) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto explainer = make();
  const auto input = make({.masking = Masking::input});
  const auto free = make({.probe = free_logits()});
  const auto gates_of = [&](const Recording& recording, const Batch& batch) {
    return [&explainer, recording, batch] { explainer->gates(recording, batch, {0}, Draw::mean); };
  };
  const auto with_input = [&](double value) {
    Inputs inputs = {batch_.inputs[0].clone(), batch_.inputs[1]};
    inputs[0][0][1][2] = value;
    return model_->record(inputs);
  };
  Batch narrow = batch_, padded = batch_, unnumbered = batch_;
  narrow.mask = batch_.mask.narrow(1, 0, 2);
  padded.mask = batch_.mask.clone();
  padded.mask[1].fill_(false);
  unnumbered.examples = at::Tensor();
  const auto build = [&](const Recording& recording, const Batch& batch, Capacity capacity,
                         const ProbeFactory& probe = mlp_probe()) {
    return [=, this] {
      Explainer(*model_, {.probe = probe}, recording, batch, capacity, make_generator(0));
    };
  };
  const Recording partial = model_->record(batch_.inputs, {"low"});
  EXPECT_NO_THROW(build(recording_, batch_, {5, 3})());
  expect_refused({
      {"NaN state", gates_of(with_input(kNan), batch_),
       "state at 'low' has to be finite, but got 4 NaN or infinite of 24"},
      {"infinite state", gates_of(with_input(kInfinity), batch_), "state at 'low'"},
      {"NaN at the start", build(with_input(kNan), batch_, {}), "state at 'low' has to be finite"},
      {"mask's shape", gates_of(recording_, narrow), "batch.mask has to be of shape (2, 3)"},
      {"mask's shape at the start", build(recording_, narrow, {}), "batch.mask has to be of shape"},
      {"all-padding row", build(recording_, padded, {}), "only padding in row 1"},
      {"unrecorded site", build(partial, batch_, {}), "'middle' (nearest: low)"},
      {"unrecorded state", [&] { explainer->gates(partial, batch_, {1}, Draw::mean); }, "'middle'"},
      {"no room", build(recording_, batch_, {}, free_logits()), "examples has to be >= 1"},
      {"no depths", [&] { explainer->gates(recording_, batch_, {}, Draw::mean); },
       "depths has to be"},
      {"depth 3 of 3",
       [&] {
         explainer->gates(recording_, batch_, {0, 3}, Draw::mean);
       },
       "depth has to be in 0..2, but got 3"},
      {"depth 3 of 3, input", [&] { input->gates(recording_, batch_, {3}, Draw::mean); }, "got 3"},
      {"depth -1",
       [&] {
         explainer->gates(recording_, batch_, {-1, 1}, Draw::mean);
       },
       "but got -1"},
      {"masked site of depth 3", [&] { explainer->masked_site(3); }, "depth has to be in 0..2"},
      {"parameters of depth 3", [&] { explainer->parameters_of(3); }, "depth has to be in 0..2"},
      {"no generator", [&] { explainer->gates(recording_, batch_, {0}, Draw::sample); },
       "generator"},
      {"no numbers", [&] { free->gates(recording_, unnumbered, {0}, Draw::mean); },
       "batch.examples has to be given"},
  });
}

}  // namespace
}  // namespace diffmask
