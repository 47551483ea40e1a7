// What the examples that explain an encoder have in common; two of them fine-tune it first.
#pragma once
#include <ATen/Context.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/zoo/data/encoded.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "program.hpp"

/// The most memory that the program has held at once, in MB.
inline double peak_rss_mb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// While it lives, and where it is wanted, products of float32 matrices are taken in bfloat16 on
/// processors that have them (with LibTorch 2 and AMX, say; elsewhere attention alone is computed
/// in another way): less exact, and faster (docs/recipe.md).
class Bfloat16Products {
 public:
  explicit Bfloat16Products(bool wanted) { set(wanted); }
  ~Bfloat16Products() { set(false); }
  Bfloat16Products(const Bfloat16Products&) = delete;
  Bfloat16Products& operator=(const Bfloat16Products&) = delete;

 private:
  static void set(bool wanted) {
    at::globalContext().setFloat32MatmulPrecision(wanted ? "medium" : "highest");
    // oneDNN keeps what it prepared for each of the last 1,024 shapes, of which batches of like
    // lengths have many: gigabytes. It asks once, at its first product, and not again.
    if (wanted) setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16", /*overwrite=*/0);
    // The fused attention takes many small products, which cost more to prepare than to compute.
    at::globalContext().setSDPUseFlash(!wanted);
  }
};

/// A BERT's usual fine-tuning: warm-up, linear decay, no weight decay of biases, length buckets.
inline diffmask::SupervisedOptions fine_tuning(int64_t epochs, int64_t batch_size, double rate,
                                               uint64_t seed) {
  diffmask::SupervisedOptions options;
  options.epochs = epochs;
  options.batch_size = batch_size;
  options.rate = rate;
  options.final_rate = 0.01;
  options.warm_up = 0.1;
  options.weight_decay = 0.01;
  options.decay_vectors = false;
  options.pool = 32;
  options.seed = seed;
  return options;
}

/// A weight a token, with which texts lose more of what is frequent and says little: a + (1 - a)
/// max(0, 1 - sqrt(t / f)), where f is its share of the data's tokens (the subsampling of Mikolov
/// et al. 2013, section 2.3), t = 0.0005 and a = 0.5, so that none is always there. Shape:
/// (vocabulary).
inline at::Tensor frequency_weights(const diffmask::EncodedDataset& data, int64_t vocabulary) {
  constexpr double kUsual = 5e-4, kLeast = 0.5;
  at::Tensor counts = at::zeros({vocabulary});
  for (const diffmask::Encoding& encoding : data.encodings()) {
    counts += at::bincount(at::tensor(encoding.ids, at::kLong), {}, vocabulary);
  }
  const at::Tensor frequency = counts / counts.sum();
  return kLeast + (1 - kLeast) * (1 - (kUsual / frequency).sqrt()).clamp_min(0);
}

/// Texts as fine-tuning sees them, so that an explainer's masks do not leave what the encoder knows
/// (Hase et al. 2021): each loses tokens to [MASK], at a rate of its own, uniform on (0, most),
/// times the token's weight. Shape: inputs' ids (B, T); weights (vocabulary).
inline diffmask::Inputs with_masked_tokens(diffmask::Inputs inputs,
                                           const diffmask::WordPiece& tokenizer, double most,
                                           const at::Tensor& weights,
                                           const at::Generator& generator) {
  at::Tensor& ids = inputs.at(0);
  const auto chance = [&](int64_t tokens) {
    return at::rand({ids.size(0), tokens}, generator, at::TensorOptions(at::kFloat));
  };
  const at::Tensor rates = most * chance(1) * weights.index_select(0, ids.flatten()).view_as(ids);
  at::Tensor lost = chance(ids.size(1)).lt(rates);
  for (const int64_t frame :
       {tokenizer.classification(), tokenizer.separator(), tokenizer.padding()}) {
    lost = lost.logical_and(ids.ne(frame));
  }
  ids = ids.masked_fill(lost, tokenizer.mask());
  return inputs;
}

/// Explainers are trained to this share of the epsilon asked for, so that what holds on the
/// examples they were selected on holds on others, too.
constexpr double kMargin = 0.7;

/// How explainers of an encoder are trained (docs/recipe.md says why). Multipliers are in units of
/// `unit`, about what a share of all positions is worth in divergence.
inline diffmask::TrainerOptions encoder_recipe(diffmask::Masking masking, double epsilon,
                                               double unit, double rate) {
  diffmask::TrainerOptions trainer;
  trainer.epsilon = kMargin * epsilon;
  trainer.batches.by_length = true;
  // About a tenth of the treebank's recordings: to make one anew costs little beside a step's
  // masked passes.
  trainer.batches.cache_bytes = 256 << 20;
  trainer.expected_every = 2;
  trainer.warm_up = 50;
  // P parts what is worth its divergence from what is not; log-odds leave equal odds at low depths,
  // of which no hard mask can be made.
  trainer.penalty = {.form = diffmask::PenaltyOptions::Form::expected_l0, .scale = 1.0};
  trainer.multiplier = {.initial = 5 * unit,
                        .rate = 0.3 * unit,
                        .proportional = 10 * unit,
                        .smoothing = 0.9,
                        .maximum = 60 * unit};
  trainer.gate_rate = trainer.baseline_rate = rate;
  trainer.final_rate = 0.05;
  if (masking == diffmask::Masking::input) {
    // Deep probes know the prediction: let alone, they drop whole texts whose prediction the
    // baseline gives anyway. What words alone can tell is settled first.
    trainer.schedule = diffmask::TrainerOptions::Schedule::bottom_up;
    trainer.first_share = 0.3;
  }
  // Hard masks are what is reported.
  trainer.criterion = diffmask::TrainerOptions::Criterion::hard;
  return trainer;
}

struct Explained {
  diffmask::DiffMask method;
  double seconds = 0.0;  ///< 0 where it was loaded
};

/// The explainer: loaded where its file is there, else fitted and, where a file is named, written.
inline Explained explain(const std::shared_ptr<const diffmask::FrozenModel>& model,
                         const diffmask::Dataset& training, const diffmask::Dataset& validation,
                         diffmask::Masking masking, const diffmask::TrainerOptions& options,
                         const std::string& file, const std::vector<diffmask::Callback>& callbacks,
                         const diffmask::BaselineOptions& baseline = {}) {
  if (!file.empty() && std::filesystem::exists(file)) {
    return {diffmask::DiffMask::load(file, model)};
  }
  // Open enough to begin within epsilon, not so open that the penalty's gradient is gone.
  const double bias = masking == diffmask::Masking::input ? 3.0 : 2.0;
  diffmask::DiffMask method(
      model, {.masking = masking,
              .probe = {.hidden_size = 128, .initial_bias = bias, .layer_norm = true},
              .baseline = baseline});
  const auto summary = method.fit(training, validation, options, callbacks);
  fmt::print("{}", summary.full_report());
  std::fflush(stdout);
  if (!file.empty()) method.save(file);
  return {std::move(method), summary.seconds};
}

/// The tokens that were explained, in order, as a heatmap wants them. Shape: mask (T) bool.
inline std::vector<std::string> token_names(const diffmask::WordPiece& tokenizer,
                                            const diffmask::Encoding& encoding,
                                            const at::Tensor& mask) {
  std::vector<std::string> names;
  for (int64_t t = 0; t < encoding.size(); ++t) {
    if (!mask[t].item<bool>()) continue;
    names.push_back(tokenizer.token(encoding.ids[static_cast<size_t>(t)]));
  }
  return names;
}
