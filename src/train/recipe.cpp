#include "diffmask/train/recipe.hpp"

namespace diffmask::recipe {

Recipe log_odds() { return {}; }

Recipe one() {
  return {.name = "one",
          .margin = 0.8,
          .log_divergence = true,
          .expected_every = 2,
          .multipliers_by_samples = true,
          .warm_up = 60,
          .gate_rate = 0.02,
          .baseline_rate = 0.01,
          .final_rate = 0.05,
          .final_penalty = penalty::expected_l0({.scale = 1.0, .push = 0.03}),
          .multiplier = {.minimum = 3.0},
          .calibration = CalibrationOptions{},
          .selection = Selection::hard,
          .validate_every = 100};
}

Recipe reference() {
  return {.name = "reference",
          .schedule = schedule::random,
          .warm_up = 0,
          .optimiser = optimiser::rmsprop(),
          .gate_rate = 3e-4,
          .baseline_rate = 1e-3,
          .lookahead = LookaheadOptions{},
          .penalty = penalty::log_expected_l0({.scale = 1.0}),
          .multiplier = {.initial = 1.0, .rate = 0.3}};
}

Recipe counting() { return {.name = "counting", .final_rate = 0.2}; }

Recipe reviews() {
  return {.name = "reviews",
          .expected_every = 2,
          .warm_up = 60,
          .final_rate = 0.05,
          .selection = Selection::hard,
          .validate_every = 100};
}

Recipe images(Masking masking) {
  return {.name = masking == Masking::input ? "images_input" : "images_hidden",
          .schedule = masking == Masking::input ? Schedule(schedule::bottom_up) : schedule::all,
          .expected_every = 2,
          .warm_up = 60,
          .gate_rate = 0.03,
          .selection = Selection::hard,
          .validate_every = 100};
}

Recipe graphs() {
  return {.name = "graphs",
          .schedule = schedule::deepest_and_random,
          .warm_up = 0,
          .gate_rate = 0.02,
          .final_rate = 0.2};
}

Recipe encoder(Masking masking, double unit, double rate) {
  Recipe recipe{.name = masking == Masking::input ? "encoder_input" : "encoder_hidden",
                .expected_every = 2,
                .warm_up = 50,
                .gate_rate = rate,
                .baseline_rate = rate,
                .final_rate = 0.05,
                // P parts what is worth its divergence from what is not; log-odds leave equal odds
                // at low depths, of which no hard mask can be made.
                .penalty = penalty::expected_l0({.scale = 1.0}),
                .multiplier = {.initial = 5 * unit,
                               .rate = 0.3 * unit,
                               .proportional = 10 * unit,
                               .smoothing = 0.9,
                               .maximum = 60 * unit},
                .selection = Selection::hard};
  if (masking == Masking::input) {
    // Deep probes know the prediction: let alone, they drop whole texts whose prediction the
    // baseline gives anyway. What words alone can tell is settled first.
    recipe.schedule = schedule::bottom_up;
    recipe.first_share = 0.3;
  }
  return recipe;
}

const std::map<std::string, Recipe>& ready() {
  static const std::map<std::string, Recipe> all = [] {
    std::map<std::string, Recipe> named;
    for (const Recipe& recipe :
         {log_odds(), one(), reference(), counting(), reviews(), images(Masking::input),
          images(Masking::hidden), graphs(), encoder(Masking::input), encoder(Masking::hidden)}) {
      named.emplace(recipe.name, recipe);
    }
    return named;
  }();
  return all;
}

}  // namespace diffmask::recipe
