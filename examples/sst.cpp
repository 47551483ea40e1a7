// Which words of a sentence does a Transformer need to tell its sentiment, and at which layer does
// it know? The experiment of De Cao et al. 2020, section 4.2, on the Stanford Sentiment Treebank.
//
//   ./examples/run sst --data FOLDER           the treebank's train.txt, dev.txt, test.txt
//   ./examples/run sentiment --model minilm    the same on film reviews, which it fetches
//
// Fine-tunes a small BERT to tell five degrees of sentiment, then trains DiffMask by input and by
// hidden states, and prints for the test sentences: how well the classifier does as it is, with
// what DiffMask masks taken away, and with as much taken away at random. Expect masks that cost
// little, random ones that cost much, and words with a sentiment that survive more layers.
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "diffmask/attribution/data_scores.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/agreement.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/report/trade_off.hpp"
#include "diffmask/zoo/data/sentences.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/fine_tuning.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "diffmask/zoo/tasks/encoder.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "diffmask/zoo/tasks/plausibility.hpp"
#include "program.hpp"

namespace dm = diffmask;
using dm::Masking, nlohmann::json;

namespace {

constexpr int64_t kClasses = 5;

struct Options : EncoderOptions {
  std::string lexicon, rationales, trade_off;
  int64_t epochs = 3, phrases = 2, steps = 1200, batch_size = 32;
  double input_epsilon = 0.055, hidden_epsilon = 0.05, rate = 0.015, mask_words = 1.0;
  bool words = false, mask_special = false, stability = false, dev = false;
};

// The experiment's steps, in the order of run(); each leaves its figures in the report.
class Experiment {
 public:
  explicit Experiment(const Options& options)
      : options_(options),
        tokenizer_(options.made_model() ? dm::made_tokenizer()
                                        : dm::WordPiece::load(options.model)),
        parts_(options.made() ? dm::review_sentences(dm::made_reviews(300, dm::make_generator(0)),
                                                     dm::made_lexicon())
                              : dm::read_sentence_parts(options.data, options.lexicon)),
        training_(encoded(parts_.training)),
        development_(encoded(parts_.development)),
        test_(encoded(parts_.test)),
        net_(make_net()),
        model_(dm::staged(net_)) {
    fmt::print("{} sentences to train on, {} to select on, {} to report on\n",
               training_.data.size(), development_.data.size(), test_.data.size());
  }

  int run() {
    fine_tune();
    for (const auto& [name, masking, epsilon] :
         {std::tuple{"input", Masking::input, options_.input_epsilon},
          std::tuple{"hidden", Masking::hidden, options_.hidden_epsilon}}) {
      if (options_.gating != "both" && options_.gating != name) continue;
      auto fitted = fit(masking, epsilon, options_.seed, options_.explainer_file(name));
      report_["seconds"][fmt::format("fit_{}", name)] = fitted.summary.seconds;
      gatings_.push_back({name, std::move(fitted.method), epsilon});
    }
    const auto found = score(gatings_);
    fmt::print("\n{}\n{}", found.full_report(options_.dev ? "dev" : "test"), found.brief_report());
    report_.update(json::parse(found.json()));
    for (const dm::Gating& gating : gatings_) explain_words(gating);
    if (!options_.trade_off.empty()) trade_off();
    if (!options_.html.empty()) write_pictures();
    report_["peak_rss_mb"] = peak_rss_mb();
    if (!options_.json.empty()) dm::write_file(options_.json, report_.dump(2) + "\n");
    fmt::print("seconds {}, {:.0f} MB at most\n", report_["seconds"].dump(), peak_rss_mb());
    return 0;
  }

 private:
  dm::Sentences encoded(std::vector<dm::LabelledSentence> sentences) const {
    return dm::encode_sentences(
        std::move(sentences), tokenizer_,
        {.explain_special = options_.mask_special, .tie_words = options_.words});
  }

  const dm::Sentences& shown() const { return options_.dev ? development_ : test_; }

  std::shared_ptr<dm::Bert> make_net() const {
    const auto generator = dm::make_generator(dm::derive_seed(options_.seed, 100));
    const dm::BertHead head{.classes = kClasses};
    return options_.made_model() ? dm::small_bert(tokenizer_, head, generator)
                                 : dm::load_bert(options_.model, head, generator);
  }

  void fine_tune() {
    report_["seconds"]["fine_tune"] = 0.0;  // where it was loaded
    if (!options_.classifier.empty() && std::filesystem::exists(options_.classifier)) {
      dm::load_weights(*net_, options_.classifier);
      return;
    }
    const dm::Bfloat16Products fast(options_.bfloat16);
    const auto generator = dm::make_generator(dm::derive_seed(options_.seed, 102));
    const auto weights = dm::frequency_weights(training_.data, tokenizer_.size());
    const dm::ModuleForward forward = [&](const dm::Inputs& x) {
      if (!net_->is_training()) return net_->forward(x);
      return net_->forward(
          dm::with_lost_words(x, tokenizer_, options_.mask_words, weights, generator));
    };
    auto supervised = dm::fine_tuning({.epochs = options_.epochs, .seed = options_.seed});
    // The loss rises before macro-F1, which is reported, falls.
    supervised.selection = [](const at::Tensor& y, const at::Tensor& c) {
      return 1 - dm::macro_f1(y.argmax(1), c, kClasses);
    };
    const auto phrases = dm::make_generator(dm::derive_seed(options_.seed, 103));
    const auto training = encoded(dm::with_phrases(parts_.training, options_.phrases, phrases));
    const auto trained =
        dm::train_supervised(*net_, forward, dm::cross_entropy, training.data, development_.data,
                             supervised, watched("classifier", guard_));
    check_interrupt();
    fmt::print("classifier: epoch {} of {}, macro-F1 {:.3f} on dev, {:.1f} s\n", trained.epoch,
               options_.epochs, 1 - trained.loss, trained.seconds);
    report_["seconds"]["fine_tune"] = trained.seconds;
    if (!options_.classifier.empty()) dm::save_weights(*net_, options_.classifier);
  }

  dm::TrainerOptions training(Masking masking, double epsilon, uint64_t seed) const {
    auto trainer = dm::encoder_training(masking, epsilon, /*unit=*/1, options_.rate);
    trainer.steps = options_.steps;
    if (masking == Masking::input) {
      trainer.steps *= 4;  // a step trains two depths, of hidden gating all
      trainer.recipe.first_share = 0.1;
      trainer.recipe.dropout = 0.3;
    }
    trainer.recipe.validate_every = trainer.steps;  // dear: all depths over dev.txt
    trainer.batches.batch_size = options_.batch_size;
    trainer.seed = seed;
    if (options_.smoke) trainer.recipe.warm_up = 2;
    trainer.callbacks = watched(masking == Masking::input ? "input" : "hidden", guard_);
    return trainer;
  }

  dm::FittedOrLoaded fit(Masking masking, double epsilon, uint64_t seed,
                         const std::string& file = "") {
    const dm::Bfloat16Products fast(options_.bfloat16);
    dm::BaselineOptions baseline;
    if (masking == Masking::input && options_.mask_words > 0) {  // what fine-tuning put there
      const at::Tensor mask = at::full({1, 1}, tokenizer_.mask(), at::kLong);
      baseline = {.start = dm::BaselineOptions::Start::given,
                  .vectors = {net_->embed_words(mask).flatten()}};
    }
    auto fitted =
        dm::fitted_or_loaded(model_, dm::encoder_explainer(masking, baseline), training_.data,
                             development_.data, training(masking, epsilon, seed), file);
    check_interrupt();
    if (fitted.summary.steps > 0) fmt::print("{}", fitted.summary.full_report());
    return fitted;
  }

  dm::MaskExperiment score(const std::vector<dm::Gating>& gatings) const {
    return dm::score_masks(*model_, shown().data, gatings,
                           {.scorer = dm::scorer::classes(kClasses),
                            .seed = options_.seed,
                            .progress = guard_.callback()});
  }

  // Which words survive: by their sentiment, beside what people marked, and with another seed.
  void explain_words(const dm::Gating& gating) {
    const Masking masking = gating.method.options().masking;
    const std::string suffix = masking == Masking::input ? "" : "_hidden";
    const auto scores = dm::data_scores(gating.method, shown().data);
    const auto means = dm::survival_by_sentiment(shown(), scores);
    fmt::print("\n{} gating, mean depths of {} that a word survives, by its sentiment: ",
               gating.name, gating.method.explainer().depths());
    for (size_t c = 0; c < means.size(); ++c) {
      fmt::print("{} {:.2f}  ", dm::sentiment_names()[c], means[c]);
      report_["sentiment" + suffix][dm::sentiment_names()[c]] = means[c];
    }
    fmt::print("\n");
    if (!options_.rationales.empty() && masking == Masking::input) {
      const auto rationales = dm::read_rationales(options_.rationales);
      const auto generator = dm::make_generator(dm::derive_seed(options_.seed, 300));
      dm::Plausibility people;
      for (const auto& [split, part] :
           {std::pair{"dev", &development_}, std::pair{"test", &test_}}) {
        people.add(rationales, split, *part, dm::data_scores(gating.method, part->data), generator);
      }
      report_["rationales"] = {{"diffmask", people.f1()},
                               {"random", people.random_f1()},
                               {"uniform", people.all_f1()},
                               {"sentences", people.sentences()}};
      fmt::print("rationales, token F1: {}\n", report_["rationales"].dump());
    }
    if (!options_.stability) return;
    const auto other = fit(masking, gating.epsilon, options_.seed + 1).method;
    const double agreement = dm::mean_spearman(scores, dm::data_scores(other, shown().data));
    report_["stability"]["spearman_between_seeds" + suffix] = agreement;
    fmt::print("Spearman between two seeds: {:.3f}\n", agreement);
  }

  // From the strictest epsilon on, each explainer is trained on from the one before.
  void trade_off() {
    std::vector<dm::MaskExperiment> found;
    for (const dm::Gating& gating : gatings_) {
      const Masking masking = gating.method.options().masking;
      std::optional<dm::DiffMask> method;
      for (const double epsilon : {0.01, 0.02, 0.05, 0.1, 0.2}) {
        if (method) {
          const dm::Bfloat16Products fast(options_.bfloat16);
          auto trainer = training(masking, epsilon, options_.seed);
          trainer.recipe.warm_up = 0;
          trainer.steps = trainer.recipe.validate_every = std::max<int64_t>(trainer.steps / 2, 1);
          method->refine(training_.data, development_.data, trainer);
        } else {
          method = fit(masking, epsilon, options_.seed).method;
        }
        check_interrupt();
        found.push_back(score({{gating.name, *method, epsilon}}));
        fmt::print("epsilon {:g}, {}", epsilon, found.back().brief_report());
        report_["trade_off"].push_back(json::parse(found.back().json()));
      }
    }
    dm::write_file(options_.trade_off, dm::svg_chart(dm::trade_off_chart(found, "macro_f1")));
  }

  void write_pictures() const {
    const dm::Batch batch =
        shown().data.batch(dm::iota(std::min<int64_t>(20, shown().data.size())));
    const auto predicted = model_->record(batch.inputs).output().argmax(1);
    std::vector<std::pair<std::string, dm::Attribution>> named;
    for (const dm::Gating& g : gatings_) named.emplace_back(g.name, g.method.attribute(batch));
    std::vector<dm::Heatmap> maps;
    const auto name = [](const at::Tensor& label) {
      return dm::sentiment_names()[label.item<int64_t>()];
    };
    for (int64_t i = 0; i < batch.size(); ++i) {
      maps.push_back(
          dm::heatmap(dm::side_by_side(named), i,
                      dm::token_names(tokenizer_, shown().data.encodings()[static_cast<size_t>(i)],
                                      batch.mask[i]),
                      fmt::format("Sentence {}: predicted {}, labelled {}", i + 1,
                                  name(predicted[i]), name(batch.labels[i]))));
    }
    fmt::print("\n{}\n", dm::terminal_heatmap(maps[0], /*colour=*/::isatty(1) != 0));
    dm::write_file(options_.html,
                   dm::html_report("What the encoder needs to tell a sentence's sentiment",
                                   "Twenty sentences. A cell shows the probability that a token's "
                                   "state is needed at a depth.",
                                   maps));
  }

  const Options& options_;
  dm::WordPiece tokenizer_;
  dm::SentenceParts parts_;
  dm::Sentences training_, development_, test_;
  std::shared_ptr<dm::Bert> net_;
  std::shared_ptr<dm::StagedModel> model_;
  dm::InterruptGuard guard_;
  std::vector<dm::Gating> gatings_;
  json report_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which words does a Transformer need to tell a sentiment, and where does it know?");
  Options options;
  options.add_to(app,
                 "Folder of the treebank's train.txt, dev.txt, test.txt; or a file of reviews: "
                 "text<TAB>rating, or id<TAB>rating<TAB>text");
  app.add_option("--lexicon", options.lexicon, "Valences of the reviews' words: word<TAB>valence");
  app.add_option("--rationales", options.rationales,
                 "Table of FairRationales: fair_rationales_sst.tsv");
  add_option(app, "--epochs", options.epochs, "Epochs of fine-tuning");
  add_option(
      app, "--phrases", options.phrases,
      "Number of phrases of each of the treebank's sentences to fine-tune on as well; of four "
      "words or more, with labels of their own")
      ->check(CLI::NonNegativeNumber);
  add_option(app, "--mask-words", options.mask_words,
             "In fine-tuning each sentence loses words at a rate uniform on 0 to this; rare words "
             "at down to half of that rate")
      ->check(CLI::Range(0.0, 1.0));
  add_option(app, "--steps", options.steps,
             "Steps of hidden gating's explainer; four times as many for input gating's");
  add_option(app, "--batch-size", options.batch_size, "Sentences per step");
  add_option(app, "--rate", options.rate, "Step size of the explainers");
  add_option(app, "--input-epsilon", options.input_epsilon, "Divergence allowed, in nats: inputs");
  add_option(app, "--hidden-epsilon", options.hidden_epsilon, "Divergence allowed: hidden states");
  app.add_flag("--words", options.words, "One gate for all sub-words of a word");
  app.add_flag("--mask-special", options.mask_special,
               "Let [CLS] and [SEP] be masked too; without it they are kept");
  app.add_option("--trade-off", options.trade_off,
                 "Also train at epsilon 0.01, 0.02, 0.05, 0.1 and 0.2, and write a chart of these "
                 "here, as SVG: four times the time");
  app.add_flag("--stability", options.stability,
               "Also train with another seed, and compare: twice the time");
  app.add_flag("--dev", options.dev, "Report on dev.txt, to make choices, in place of test.txt");
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) options.epochs = 1, options.phrases = 0, options.steps = 5;
  return reported("sst", [&] {
    use_threads(options.threads);
    return Experiment(options).run();
  });
}
