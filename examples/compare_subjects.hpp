// What the example `compare` explains: the counting task, or sentences of the Stanford Sentiment
// Treebank. Each is a model, its examples, and explainers that were trained for it.
#pragma once
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/zoo/data/rationales.hpp"
#include "diffmask/zoo/data/sentences.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "diffmask/zoo/tasks/counting_fit.hpp"
#include "diffmask/zoo/tasks/marked_tokens.hpp"
#include "program.hpp"

namespace dm = diffmask;

struct SubjectOptions {
  std::string name = "toy", data, model, classifier, explainers, rationales;
  int64_t examples = 0, steps = 2000;
  bool smoke = false;

  void add_to(CLI::App& app) {
    add_option(app, "--subject", name, "What is explained")->check(CLI::IsMember({"toy", "sst"}));
    app.add_option("--data", data,
                   "toy: folder with examples.csv and model.safetensors, in place of own ones; "
                   "sst: the treebank's folder")
        ->check(CLI::ExistingDirectory);
    app.add_option("--model", model, "Hugging Face folder of sst's encoder");
    app.add_option("--classifier", classifier, "File of its fine-tuned weights");
    app.add_option("--explainers", explainers,
                   "How the names of its explainers' files begin: BEGIN-hidden.safetensors, "
                   "BEGIN-input.safetensors");
    app.add_option(
        "--rationales", rationales,
        "Table of FairRationales for sst: its sentences come first, and are compared with");
    add_number(app, "--examples", examples, "Number of examples, the first ones; 0: all", 0);
    add_number(app, "--steps", steps, "Training steps of toy's explainers");
    app.add_flag("--smoke", smoke, "A quick run of a few steps: its figures say nothing");
  }
};

// What is explained: a model, the examples, what was trained to explain it, and what is known.
struct Subject {
  std::shared_ptr<const dm::FrozenModel> model, randomised;
  std::shared_ptr<const dm::Dataset> training, data = nullptr;
  std::vector<std::pair<std::string, std::shared_ptr<dm::DiffMask>>> explainers = {};
  std::function<at::Tensor(const dm::Batch&)> truth = nullptr;

  // Explains the first so many of `order`; 0: all. Shape: truth (N, T) bool, of all data.
  void explain(const std::shared_ptr<const dm::Dataset>& all, std::vector<int64_t> order,
               int64_t examples, const at::Tensor& truth_of_all) {
    if (examples > 0) order.resize(std::min(order.size(), static_cast<size_t>(examples)));
    data = std::make_shared<dm::Subset>(all, order);
    if (truth_of_all.defined()) {
      truth = dm::truth_rows(truth_of_all.index_select(0, at::tensor(order)));
    }
  }
};

inline Subject counting(const SubjectOptions& options, uint64_t seed) {
  dm::CountingFitOptions size;
  if (options.smoke) size = {.training = 600, .validation = 20, .epochs = 1};
  const dm::CountingFit task = options.data.empty()
                                   ? dm::fit_counting(seed, size, {dm::progress_bar("model")})
                                   : dm::read_counting_fit(options.data);
  const auto fresh = std::make_shared<dm::CountingNet>(dm::make_generator(seed + 1000));
  fresh->eval();
  Subject subject{.model = dm::staged(task.net),
                  .randomised = dm::staged(fresh),
                  .training = std::make_shared<dm::PaddedDataset>(task.training.dataset())};
  const auto all = std::make_shared<dm::PaddedDataset>(task.validation.dataset());
  subject.explain(all, dm::iota(all->size()), options.examples, task.validation.relevant());
  auto trainer = dm::counting_training(seed, options.steps);
  if (options.smoke) trainer.recipe.warm_up = 2;
  for (const auto masking : {dm::Masking::hidden, dm::Masking::input}) {
    auto method = std::make_shared<dm::DiffMask>(subject.model, dm::counting_explainer(masking));
    const auto name = masking == dm::Masking::hidden ? "diffmask (hidden)" : "diffmask (input)";
    fmt::print(stderr, "{}: {}\n", name, method->fit(*subject.training, trainer).brief_report());
    subject.explainers.emplace_back(name, std::move(method));
  }
  return subject;
}

inline Subject treebank(const SubjectOptions& options) {
  dm::require(!options.classifier.empty(), "--classifier", "a file that `sst` wrote", "none");
  const auto tokenizer = dm::WordPiece::load(options.model);
  const auto part = [&](const char* name) {
    return std::make_shared<dm::Sentences>(dm::encode_sentences(
        dm::read_trees(fmt::format("{}/{}.txt", options.data, name)), tokenizer));
  };
  const auto data_of = [](const std::shared_ptr<dm::Sentences>& of) {
    return std::shared_ptr<const dm::Dataset>(of, &of->data);
  };
  const auto fresh = [&](uint64_t seed) {
    return dm::load_bert(options.model, {.classes = 5}, dm::make_generator(seed));
  };
  const auto net = fresh(0), random = fresh(1);
  dm::load_weights(*net, options.classifier);
  {
    at::NoGradGuard no_grad;
    const at::Generator generator = dm::make_generator(2);
    for (at::Tensor& tensor : random->parameters()) {
      if (tensor.dim() > 1) tensor.normal_(0, 0.02, generator);
    }
  }
  net->eval();
  random->eval();
  const auto test = part("test"), development = part("dev");
  Subject subject{
      .model = dm::staged(net), .randomised = dm::staged(random), .training = data_of(development)};
  // Sentences that people marked come first.
  std::vector<int64_t> order = dm::iota(test->data.size());
  at::Tensor marked;
  if (!options.rationales.empty()) {
    marked = dm::marked_tokens(dm::read_rationales(options.rationales), "test", *test);
    std::stable_partition(order.begin(), order.end(),
                          [&](int64_t i) { return marked[i].any().item<bool>(); });
  }
  subject.explain(data_of(test), std::move(order), options.examples, marked);
  for (const char* gating : {"hidden", "input"}) {
    if (options.explainers.empty()) continue;
    const std::string file = fmt::format("{}-{}.safetensors", options.explainers, gating);
    subject.explainers.emplace_back(
        fmt::format("diffmask ({})", gating),
        std::make_shared<dm::DiffMask>(dm::DiffMask::load(file, subject.model)));
  }
  return subject;
}
