// What `sst` and `question_answering` are both told, and how both end.
#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/zoo/nets/fine_tuning.hpp"
#include "diffmask/zoo/tasks/encoder.hpp"
#include "program.hpp"

struct EncoderOptions : CommonOptions {
  std::string model, classifier, explainers, gating = "both";
  int64_t epochs = 3, steps = 0, batch_size = 0, threads = 0;
  bool bfloat16 = false;

  void add_to(CLI::App& app, const std::string& data_help) {
    CommonOptions::add_to(app, data_help);
    app.add_option("--model", model, "Hugging Face folder of an encoder");
    app.add_option("--classifier", classifier,
                   "File of the fine-tuned weights: loaded if it exists, else written");
    app.add_option(
        "--explainers", explainers,
        "How the names of the explainers' files begin: loaded if they exist, else written");
    add_option(app, "--gating", gating, "What is masked")
        ->check(CLI::IsMember({"input", "hidden", "both"}));
    add_number(app, "--epochs", epochs, "Epochs of fine-tuning");
    add_number(app, "--steps", steps,
               "Steps of hidden gating's explainer; input gating's takes three or four times as "
               "many");
    add_number(app, "--batch-size", batch_size, "Examples per step of an explainer");
    add_number(app, "--threads", threads, "Number of threads; 0: one per core", 0);
    app.add_flag(
        "--bfloat16", bfloat16,
        "Train with matrix products in bfloat16, where the processor has them: faster. All "
        "that is reported is computed in float32");
  }

  /// Once they are read: a quick run is of a few steps, and makes the files that it was not given.
  void settle() {
    diffmask::require(smoke || !model.empty(), "--model", "given, or --smoke", "neither");
    diffmask::require(smoke || !data.empty(), "--data", "given, or --smoke", "neither");
    if (smoke) epochs = 1, steps = 5;
  }

  /// The gatings asked for, by name.
  std::vector<std::pair<std::string, diffmask::Masking>> gatings() const {
    std::vector<std::pair<std::string, diffmask::Masking>> all = {
        {"input", diffmask::Masking::input}, {"hidden", diffmask::Masking::hidden}};
    std::erase_if(all, [&](const auto& of) { return gating != "both" && gating != of.first; });
    return all;
  }

  /// The file of a gating's explainer; empty: none.
  std::string explainer_file(const std::string& of) const {
    return explainers.empty() ? "" : fmt::format("{}-{}.safetensors", explainers, of);
  }
};

struct EncoderProgram {
  const EncoderOptions& options;
  diffmask::InterruptGuard guard = {};
  nlohmann::json report = {};

  /// Runs `train`, with products in bfloat16 if asked for.
  template <typename Train>
  auto fast(const Train& train) const {
    const diffmask::Bfloat16Products products(options.bfloat16);
    return train();
  }

  /// Says how fine-tuning went, unless its weights were loaded; `figure`: of the epoch kept.
  void tell(const diffmask::SupervisedSummary& trained, const std::string& figure) {
    check_interrupt();
    report["seconds"]["fine_tune"] = trained.seconds;  // 0 where it was loaded
    if (trained.epoch == 0) return;
    fmt::print("fine-tuning: epoch {} of {}, {}, {:.1f} s\n", trained.epoch, options.epochs, figure,
               trained.seconds);
  }

  diffmask::TrainerOptions as_told(diffmask::TrainerOptions trainer,
                                   const std::string& name) const {
    trainer.batches.batch_size = options.batch_size;
    trainer.seed = options.seed;
    trainer.callbacks = watched(name, guard);
    if (options.smoke) trainer.recipe.warm_up = 2;
    return trainer;
  }

  /// The gating with its explainer, which is trained or, where there is a file of it, loaded.
  diffmask::Gating fit(const std::string& name, double epsilon,
                       const std::shared_ptr<const diffmask::FrozenModel>& model,
                       const diffmask::ExplainerOptions& explainer,
                       const diffmask::Dataset& training, const diffmask::Dataset& validation,
                       const diffmask::TrainerOptions& trainer, const std::string& file = "") {
    auto fitted = fast([&] {
      return diffmask::fitted_or_loaded(model, explainer, training, validation, trainer, file);
    });
    check_interrupt();
    report["seconds"].emplace("fit_" + name, fitted.summary.seconds);  // the first of this name
    if (fitted.summary.steps > 0) fmt::print("{}", fitted.summary.full_report());
    return {name, std::move(fitted.method), epsilon};
  }

  /// Writes and prints what was measured; the program's status.
  int finish() {
    report["peak_rss_mb"] = peak_rss_mb();
    write_json(options.json, report);
    fmt::print("seconds {}, {:.0f} MB at most\n", report["seconds"].dump(), peak_rss_mb());
    return 0;
  }
};
