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

#include "diffmask/attribution/data_scores.hpp"
#include "diffmask/metrics/agreement.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/report/trade_off.hpp"
#include "diffmask/zoo/tasks/sentence_task.hpp"
#include "encoder_program.hpp"

namespace dm = diffmask;
using dm::Masking, nlohmann::json;

namespace {

struct Options : EncoderOptions {
  std::string rationales, trade_off;
  dm::SentenceTaskOptions task;
  bool stability = false, dev = false;

  void add_to(CLI::App& app) {
    steps = 1200, batch_size = 32;
    EncoderOptions::add_to(
        app,
        "Folder of the treebank's train.txt, dev.txt, test.txt; or a file of reviews: "
        "text<TAB>rating, or id<TAB>rating<TAB>text");
    app.add_option("--lexicon", task.lexicon, "Valences of the reviews' words: word<TAB>valence");
    app.add_option("--rationales", rationales, "Table of FairRationales: fair_rationales_sst.tsv");
    add_number(app, "--phrases", task.classifier.phrases,
               "Phrases of each of the treebank's sentences to fine-tune on as well", 0);
    add_option(
        app, "--mask-words", task.classifier.lost_words,
        "In fine-tuning each sentence loses words at a rate uniform on 0 to this; rare words "
        "at down to half of that rate");
    app.add_flag("--words", task.encoding.tie_words, "One gate for all sub-words of a word");
    app.add_flag("--mask-special", task.encoding.explain_special,
                 "Let [CLS] and [SEP] be masked too; without it they are kept");
    app.add_option(
        "--trade-off", trade_off,
        "Also train at epsilon 0.01, 0.02, 0.05, 0.1 and 0.2, and write a chart of these "
        "here, as SVG: four times the time");
    app.add_flag("--stability", stability,
                 "Also train with another seed, and compare: twice the time");
    app.add_flag("--dev", dev, "Report on dev.txt, to make choices, in place of test.txt");
  }

  void settle() {
    EncoderOptions::settle();
    if (smoke) task.classifier.phrases = 0;
    task.encoder = model, task.data = data, task.classifier.file = classifier;
    task.classifier.fine_tuning = {.epochs = epochs, .seed = seed};
  }
};

// The experiment's steps, in the order of run(); each leaves its figures in the report.
struct Experiment : EncoderProgram {
  const Options& told;
  dm::SentenceTask task = dm::make_sentence_task(told.task);
  const dm::Sentences& shown = told.dev ? task.development : task.test;
  std::vector<dm::Gating> gatings = {};

  int run() {
    fmt::print("{} sentences to train on, {} to select on, {} to report on\n",
               task.training.data.size(), task.development.data.size(), task.test.data.size());
    task.options.classifier.callbacks = watched("classifier", guard);
    const auto trained = fast([&] { return task.fine_tune(); });
    tell(trained, fmt::format("macro-F1 {:.3f} on dev", 1 - trained.loss));
    for (const auto& [name, masking] : told.gatings()) {
      const double epsilon = masking == Masking::input ? 0.055 : 0.05;  // nats
      gatings.push_back(fitted(name, masking, epsilon, told.seed, told.explainer_file(name)));
    }
    const auto found = score(gatings);
    fmt::print("\n{}\n{}", found.full_report(told.dev ? "dev" : "test"), found.brief_report());
    report.update(json::parse(found.json()));
    for (const dm::Gating& gating : gatings) explain_words(gating);
    if (!told.trade_off.empty()) trade_off();
    if (!told.html.empty()) write_pictures();
    return finish();
  }

  dm::TrainerOptions trainer(const std::string& name, Masking masking, double epsilon) const {
    return as_told(task.trainer(masking, epsilon, told.steps), name);
  }

  dm::Gating fitted(const std::string& name, Masking masking, double epsilon, uint64_t seed,
                    const std::string& file = "") {
    auto seeded = trainer(name, masking, epsilon);
    seeded.seed = seed;
    return fit(name, epsilon, task.model, task.explainer(masking), task.training.data,
               task.development.data, seeded, file);
  }

  dm::MaskExperiment score(const std::vector<dm::Gating>& of) const {
    return dm::score_masks(*task.model, shown.data, of,
                           {.scorer = dm::scorer::classes(task.net->head().classes),
                            .seed = told.seed,
                            .progress = guard.callback()});
  }

  // Which words survive: by their sentiment, beside what people marked, and with another seed.
  void explain_words(const dm::Gating& gating) {
    const Masking masking = gating.method.options().masking;
    const std::string suffix = masking == Masking::input ? "" : "_hidden";
    const auto scores = dm::data_scores(gating.method, shown.data);
    report["sentiment" + suffix] = told_means(
        fmt::format("{} gating, mean depths of {} that a word survives, by its sentiment",
                    gating.name, gating.method.explainer().depths()),
        dm::sentiment_names(), dm::survival_by_sentiment(shown, scores));
    if (!told.rationales.empty() && masking == Masking::input) {
      const auto people =
          task.plausibility(gating.method, dm::read_rationales(told.rationales), told.seed);
      report["rationales"] = json::parse(people.json());
      fmt::print("rationales, token F1: {}\n", people.json());
    }
    if (!told.stability) return;
    const auto other = fitted(gating.name, masking, gating.epsilon, told.seed + 1).method;
    const double agreement = dm::mean_spearman(scores, dm::data_scores(other, shown.data));
    report["stability"]["spearman_between_seeds" + suffix] = agreement;
    fmt::print("Spearman between two seeds: {:.3f}\n", agreement);
  }

  void trade_off() {
    std::vector<dm::MaskExperiment> found;
    for (const auto& of : told.gatings()) {
      const dm::Gating strict = fitted(of.first, of.second, 0.01, told.seed);
      const auto all = fast([&] {
        return dm::refined_gatings(
            strict, {0.02, 0.05, 0.1, 0.2}, task.training.data, task.development.data,
            [&](double epsilon) { return trainer(of.first, of.second, epsilon); });
      });
      for (const dm::Gating& gating : all) {
        found.push_back(score({gating}));
        fmt::print("epsilon {:g}, {}", gating.epsilon, found.back().brief_report());
        report["trade_off"].push_back(json::parse(found.back().json()));
      }
    }
    dm::write_file(told.trade_off, dm::svg_chart(dm::trade_off_chart(found, "macro_f1")));
  }

  void write_pictures() const {
    const dm::Batch batch = shown.data.batch(dm::iota(std::min<int64_t>(20, shown.data.size())));
    const auto maps =
        dm::sentence_heatmaps(dm::attribute(gatings, batch), shown, task.tokenizer, batch,
                              task.model->record(batch.inputs).output().argmax(1));
    fmt::print("\n{}\n", dm::terminal_heatmap(maps[0], /*colour=*/::isatty(1) != 0));
    dm::write_file(told.html,
                   dm::html_report("What the encoder needs to tell a sentence's sentiment",
                                   "Twenty sentences. A cell shows the probability that a token's "
                                   "state is needed at a depth.",
                                   maps));
  }
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which words does a Transformer need to tell a sentiment, and where does it know?");
  Options options;
  options.add_to(app);
  CLI11_PARSE(app, argc, argv);
  return reported("sst", [&] {
    options.settle();
    use_threads(options.threads);
    return Experiment{{options}, options}.run();
  });
}
