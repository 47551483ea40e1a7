#pragma once
/// \file
/// The methods that the counting example sets beside DiffMask. What is explained is the logit of
/// the answer that the model gives; a position's score is read without its sign.

#include <memory>

#include "diffmask/attribution/controls.hpp"
#include "diffmask/attribution/erasure/erasure.hpp"
#include "diffmask/attribution/gradient/integrated_gradients.hpp"
#include "diffmask/attribution/learned/infomask.hpp"
#include "diffmask/attribution/learned/information_bottleneck.hpp"
#include "diffmask/attribution/learned/noise_tolerance.hpp"
#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/model/frozen_model.hpp"

using NamedMethod = std::pair<std::string, std::unique_ptr<diffmask::Attributor>>;

inline std::vector<NamedMethod> counting_methods(
    const std::shared_ptr<const diffmask::FrozenModel>& model, const diffmask::Dataset& training,
    uint64_t seed) {
  using namespace diffmask;
  const AttributionOptions zero{
      .target = [](const at::Tensor& output,
                   const at::Tensor& original) { return output * original.sign(); },
      .passes = {.max_batch = 4096}};
  AttributionOptions mean = zero;
  mean.fill = mean_fill(*model, zero, training);
  using Empty = ExactSearchOptions::Empty;
  using Ties = ExactSearchOptions::Ties;

  std::vector<NamedMethod> methods;
  const auto add = [&](const std::string& name, auto method) {
    methods.emplace_back(name, std::make_unique<decltype(method)>(std::move(method)));
  };
  add("gradient", Gradient(model, zero));
  add("gradient x input", GradientTimesInput(model, zero));
  add("IG, zero", IntegratedGradients(model, zero));
  add("IG, mean", IntegratedGradients(model, mean));
  add("DeepLIFT, zero", DeepLift(model, zero));
  add("DeepLIFT, mean", DeepLift(model, mean));
  add("leave-one-out, zero", LeaveOneOut(model, zero));
  add("leave-one-out, mean", LeaveOneOut(model, mean));
  // On most rows with the answer "no" nothing has to be kept: what that empty set says of the
  // positions is a matter of policy.
  add("exact, empty = uniform", ExactSearch(model, mean, {.empty = Empty::uniform}));
  add("exact, empty refused", ExactSearch(model, mean, {.empty = Empty::refused}));
  add("exact, any smallest set",
      ExactSearch(model, mean, {.empty = Empty::uniform, .ties = Ties::all}));
  add("exact, one set", ExactSearch(model, mean, {.empty = Empty::uniform, .ties = Ties::best}));
  add("beam search", BeamSearch(model, mean));
  add("random search",
      RandomSearch(model, make_generator(derive_seed(seed, 102)), mean, {.max_passes = 100}));

  const auto bottleneck = [&](const std::string& name, InformationBottleneckOptions own) {
    own.seed = seed;
    InformationBottleneck method(model, zero, own);
    method.fit(training);
    add(name, std::move(method));
  };
  bottleneck("bottleneck, published", InformationBottleneckOptions::published());
  InformationBottleneckOptions own;
  own.divergence = divergence::bernoulli;
  own.draws = 2;  // a thousand rows are explained, at two sites
  bottleneck("bottleneck", own);
  const AmortisedOptions amortised{.batches = {.batch_size = 128}, .seed = seed};
  ReadOutBottleneck read_out(model, zero, own);
  read_out.fit(training, amortised);
  add("bottleneck, read out", std::move(read_out));
  NoiseToleranceOptions tolerance = NoiseToleranceOptions::published();
  tolerance.seed = seed;
  add("noise tolerance, published", NoiseTolerance(model, zero, tolerance));
  add("noise tolerance",
      NoiseTolerance(model, zero, {.divergence = divergence::bernoulli, .draws = 2, .seed = seed}));
  InfoMask infomask(model, mean, {.beta = 0.3, .divergence = divergence::bernoulli});
  infomask.fit(training, amortised);
  add("InfoMask", std::move(infomask));
  return methods;
}
