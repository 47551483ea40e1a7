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

#include <optional>

#include "diffmask/attribution/data_scores.hpp"
#include "diffmask/metrics/agreement.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/report/trade_off.hpp"
#include "diffmask/zoo/tasks/plausibility.hpp"
#include "diffmask/zoo/tasks/sentence_classifier.hpp"
#include "sst_options.hpp"

namespace dm = diffmask;
using dm::Masking, nlohmann::json;

namespace {

constexpr int64_t kClasses = 5;

// The experiment's steps, in the order of run(); each leaves its figures in the report.
class Experiment : EncoderProgram {
 public:
  explicit Experiment(const SstOptions& of)
      : EncoderProgram{of},
        options_(of),
        tokenizer_(of.made_model() ? dm::made_tokenizer() : dm::WordPiece::load(of.model)),
        parts_(of.made() ? dm::review_sentences(dm::made_reviews(300, dm::make_generator(0)),
                                                dm::made_lexicon())
                         : dm::read_sentence_parts(of.data, of.lexicon)),
        training_(encoded(parts_.training)),
        development_(encoded(parts_.development)),
        test_(encoded(parts_.test)),
        shown_(of.dev ? development_ : test_),
        net_(net(tokenizer_, {.classes = kClasses})),
        model_(dm::staged(net_)) {
    fmt::print("{} sentences to train on, {} to select on, {} to report on\n",
               training_.data.size(), development_.data.size(), test_.data.size());
  }

  int run() {
    fine_tune();
    for (const auto& [name, masking] : options_.gatings()) {
      const bool input = masking == Masking::input;
      const double epsilon = input ? options_.input_epsilon : options_.hidden_epsilon;
      auto fitted = fitted_to(masking, epsilon, options_.seed, options_.explainer_file(name));
      report["seconds"]["fit_" + name] = fitted.summary.seconds;
      gatings_.push_back({name, std::move(fitted.method), epsilon});
    }
    const auto found = score(gatings_);
    fmt::print("\n{}\n{}", found.full_report(options_.dev ? "dev" : "test"), found.brief_report());
    report.update(json::parse(found.json()));
    for (const dm::Gating& gating : gatings_) explain_words(gating);
    if (!options_.trade_off.empty()) trade_off();
    if (!options_.html.empty()) write_pictures();
    return finish();
  }

 private:
  dm::Sentences encoded(std::vector<dm::LabelledSentence> sentences) const {
    return dm::encode_sentences(
        std::move(sentences), tokenizer_,
        {.explain_special = options_.mask_special, .tie_words = options_.words});
  }

  void fine_tune() {
    const dm::Bfloat16Products fast(options_.bfloat16);
    const auto trained =
        dm::fine_tune(*net_, tokenizer_, parts_.training, development_,
                      {.fine_tuning = {.epochs = options_.epochs, .seed = options_.seed},
                       .lost_words = options_.mask_words,
                       .phrases = options_.phrases,
                       .file = options_.classifier,
                       .callbacks = watched("classifier", guard)});
    check_interrupt();
    report["seconds"]["fine_tune"] = trained.seconds;  // 0 where it was loaded
    if (trained.epoch == 0) return;
    fmt::print("classifier: epoch {} of {}, macro-F1 {:.3f} on dev, {:.1f} s\n", trained.epoch,
               options_.epochs, 1 - trained.loss, trained.seconds);
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
    return trainer;
  }

  dm::FittedOrLoaded fitted_to(Masking masking, double epsilon, uint64_t seed,
                               const std::string& file = "") const {
    dm::BaselineOptions baseline;
    if (masking == Masking::input && options_.mask_words > 0) {
      baseline = dm::mask_baseline(*net_, tokenizer_);
    }
    return fit(masking == Masking::input ? "input" : "hidden", model_,
               dm::encoder_explainer(masking, baseline), training_.data, development_.data,
               training(masking, epsilon, seed), file);
  }

  dm::MaskExperiment score(const std::vector<dm::Gating>& gatings) const {
    return dm::score_masks(*model_, shown_.data, gatings,
                           {.scorer = dm::scorer::classes(kClasses),
                            .seed = options_.seed,
                            .progress = guard.callback()});
  }

  // Which words survive: by their sentiment, beside what people marked, and with another seed.
  void explain_words(const dm::Gating& gating) {
    const Masking masking = gating.method.options().masking;
    const std::string suffix = masking == Masking::input ? "" : "_hidden";
    const auto scores = dm::data_scores(gating.method, shown_.data);
    const auto means = dm::survival_by_sentiment(shown_, scores);
    fmt::print("\n{} gating, mean depths of {} that a word survives, by its sentiment: ",
               gating.name, gating.method.explainer().depths());
    for (size_t c = 0; c < means.size(); ++c) {
      fmt::print("{} {:.2f}  ", dm::sentiment_names()[c], means[c]);
      report["sentiment" + suffix][dm::sentiment_names()[c]] = means[c];
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
      report["rationales"] = {{"diffmask", people.f1()},
                              {"random", people.random_f1()},
                              {"uniform", people.all_f1()},
                              {"sentences", people.sentences()}};
      fmt::print("rationales, token F1: {}\n", report["rationales"].dump());
    }
    if (!options_.stability) return;
    const auto other = fitted_to(masking, gating.epsilon, options_.seed + 1).method;
    const double agreement = dm::mean_spearman(scores, dm::data_scores(other, shown_.data));
    report["stability"]["spearman_between_seeds" + suffix] = agreement;
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
          trainer.callbacks = watched(gating.name, guard);
          method->refine(training_.data, development_.data, trainer);
        } else {
          method = fitted_to(masking, epsilon, options_.seed).method;
        }
        check_interrupt();
        found.push_back(score({{gating.name, *method, epsilon}}));
        fmt::print("epsilon {:g}, {}", epsilon, found.back().brief_report());
        report["trade_off"].push_back(json::parse(found.back().json()));
      }
    }
    dm::write_file(options_.trade_off, dm::svg_chart(dm::trade_off_chart(found, "macro_f1")));
  }

  void write_pictures() const {
    const dm::Batch batch = shown_.data.batch(dm::iota(std::min<int64_t>(20, shown_.data.size())));
    const auto maps = dm::sentence_heatmaps(dm::attribute(gatings_, batch), shown_, tokenizer_,
                                            batch, model_->record(batch.inputs).output().argmax(1));
    fmt::print("\n{}\n", dm::terminal_heatmap(maps[0], /*colour=*/::isatty(1) != 0));
    dm::write_file(options_.html,
                   dm::html_report("What the encoder needs to tell a sentence's sentiment",
                                   "Twenty sentences. A cell shows the probability that a token's "
                                   "state is needed at a depth.",
                                   maps));
  }

  const SstOptions& options_;
  dm::WordPiece tokenizer_;
  dm::SentenceParts parts_;
  dm::Sentences training_, development_, test_;
  const dm::Sentences& shown_;
  std::shared_ptr<dm::Bert> net_;
  std::shared_ptr<dm::StagedModel> model_;
  std::vector<dm::Gating> gatings_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which words does a Transformer need to tell a sentiment, and where does it know?");
  SstOptions options;
  options.add_to(app);
  CLI11_PARSE(app, argc, argv);
  options.settle();
  return reported("sst", [&] {
    use_threads(options.threads);
    return Experiment(options).run();
  });
}
