// What the example `sst` is told.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "encoder_program.hpp"

struct SstOptions : EncoderOptions {
  std::string lexicon, rationales, trade_off;
  int64_t epochs = 3, phrases = 2, steps = 1200, batch_size = 32;
  double input_epsilon = 0.055, hidden_epsilon = 0.05, rate = 0.015, mask_words = 1.0;
  bool words = false, mask_special = false, stability = false, dev = false;

  void add_to(CLI::App& app) {
    EncoderOptions::add_to(
        app,
        "Folder of the treebank's train.txt, dev.txt, test.txt; or a file of reviews: "
        "text<TAB>rating, or id<TAB>rating<TAB>text");
    app.add_option("--lexicon", lexicon, "Valences of the reviews' words: word<TAB>valence");
    app.add_option("--rationales", rationales, "Table of FairRationales: fair_rationales_sst.tsv");
    add_option(app, "--epochs", epochs, "Epochs of fine-tuning");
    add_option(
        app, "--phrases", phrases,
        "Number of phrases of each of the treebank's sentences to fine-tune on as well; of four "
        "words or more, with labels of their own")
        ->check(CLI::NonNegativeNumber);
    add_option(
        app, "--mask-words", mask_words,
        "In fine-tuning each sentence loses words at a rate uniform on 0 to this; rare words "
        "at down to half of that rate")
        ->check(CLI::Range(0.0, 1.0));
    add_option(app, "--steps", steps,
               "Steps of hidden gating's explainer; four times as many for input gating's");
    add_option(app, "--batch-size", batch_size, "Sentences per step");
    add_option(app, "--rate", rate, "Step size of the explainers");
    add_option(app, "--input-epsilon", input_epsilon, "Divergence allowed, in nats: inputs");
    add_option(app, "--hidden-epsilon", hidden_epsilon, "Divergence allowed: hidden states");
    app.add_flag("--words", words, "One gate for all sub-words of a word");
    app.add_flag("--mask-special", mask_special,
                 "Let [CLS] and [SEP] be masked too; without it they are kept");
    app.add_option(
        "--trade-off", trade_off,
        "Also train at epsilon 0.01, 0.02, 0.05, 0.1 and 0.2, and write a chart of these "
        "here, as SVG: four times the time");
    app.add_flag("--stability", stability,
                 "Also train with another seed, and compare: twice the time");
    app.add_flag("--dev", dev, "Report on dev.txt, to make choices, in place of test.txt");
  }

  /// Once the options are read: a quick run is of a few steps.
  void settle() {
    if (smoke) epochs = 1, phrases = 0, steps = 5;
  }
};
