// What `sst` and `question_answering` do alike: an encoder is read and fine-tuned, explainers are
// trained to it, and both are loaded in place of that where there are files of them.
#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/fine_tuning.hpp"
#include "diffmask/zoo/tasks/encoder.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "program.hpp"

struct EncoderOptions : CommonOptions {
  std::string model, classifier, explainers, gating = "both";
  int64_t threads = 0;
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
    add_option(app, "--threads", threads, "Number of threads; 0: one per core");
    app.add_flag(
        "--bfloat16", bfloat16,
        "Train with matrix products in bfloat16, where the processor has them: faster. All "
        "that is reported is computed in float32");
  }

  /// Whether the encoder is a small made one: a quick run that was given none.
  bool made_model() const {
    diffmask::require(smoke || !model.empty(), "--model", "given, or --smoke", "neither");
    return model.empty();
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

  std::shared_ptr<diffmask::Bert> net(const diffmask::WordPiece& tokenizer,
                                      const diffmask::BertHead& head) const {
    const auto generator = diffmask::make_generator(diffmask::derive_seed(options.seed, 100));
    return options.made_model() ? diffmask::small_bert(tokenizer, head, generator)
                                : diffmask::load_bert(options.model, head, generator);
  }

  diffmask::FittedOrLoaded fit(const std::string& name,
                               const std::shared_ptr<const diffmask::FrozenModel>& model,
                               const diffmask::ExplainerOptions& explainer,
                               const diffmask::Dataset& training,
                               const diffmask::Dataset& validation,
                               diffmask::TrainerOptions trainer, const std::string& file) const {
    const diffmask::Bfloat16Products fast(options.bfloat16);
    trainer.callbacks = watched(name, guard);
    auto fitted = diffmask::fitted_or_loaded(model, explainer, training, validation, trainer, file);
    check_interrupt();
    if (fitted.summary.steps > 0) fmt::print("{}", fitted.summary.full_report());
    return fitted;
  }

  /// Writes and prints what was measured; the program's status.
  int finish() {
    report["peak_rss_mb"] = peak_rss_mb();
    if (!options.json.empty()) diffmask::write_file(options.json, report.dump(2) + "\n");
    fmt::print("seconds {}, {:.0f} MB at most\n", report["seconds"].dump(), peak_rss_mb());
    return 0;
  }
};
