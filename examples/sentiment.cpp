// Which words of real movie reviews does a trained classifier need, and at which depth does it
// know?
//
//   ./examples/run                    gets the data, trains everything, writes sentiment.html
//   ./examples/run --data FILE        another file of text<TAB>rating lines
//
// Trains a classifier of five rating classes (quintiles), then DiffMask by input and by hidden
// states, and prints for the held-out tenth: how well the classifier does as it is, with what
// DiffMask masks taken away, and with as much taken away at random. Expect masks that cost a point
// of accuracy, random ones that cost three to five times as much, and words with a valence that
// survive more depths than others.
#include <unistd.h>

#include "diffmask/attribution/fit_together.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "diffmask/zoo/tasks/review_task.hpp"
#include "program.hpp"

namespace dm = diffmask;

namespace {

const std::vector<std::string> kClassNames = {"very bad", "bad", "middling", "good", "very good"};

struct Options : CommonOptions {
  std::string lexicon, picture, save;
  int64_t epochs = 5, steps = 600;
  double input_epsilon = 0.025, hidden_epsilon = 0.03;
};

// Both explainers are trained at once, one per core.
std::vector<dm::Gating> fitted(const dm::ReviewTask& task, const Options& options,
                               const dm::InterruptGuard& guard) {
  std::vector<dm::DiffMask> methods = {
      dm::DiffMask(task.model, task.explainer(dm::Masking::input)),
      dm::DiffMask(task.model, task.explainer(dm::Masking::hidden))};
  std::vector<dm::TrainerOptions> trainers = {task.trainer(options.input_epsilon, options.steps),
                                              task.trainer(options.hidden_epsilon, options.steps)};
  trainers[0].callbacks = watched("explainers", guard);
  trainers[1].callbacks = {guard.callback()};
  for (dm::TrainerOptions& trainer : trainers) {
    if (options.smoke) trainer.recipe.warm_up = 2;
  }
  if (!guard.interrupted()) {
    const auto summaries =
        dm::fit_together(methods, trainers, task.data.training, task.data.development);
    fmt::print("\ninput: {}\nhidden: {}\n", summaries[0].full_report(), summaries[1].full_report());
  }
  return {{"input", methods[0], options.input_epsilon},
          {"hidden", methods[1], options.hidden_epsilon}};
}

// What the masks cost, which words survive, and a picture of the first twenty reviews.
void report(const dm::ReviewTask& task, const std::map<std::string, double>& lexicon,
            const std::vector<dm::Gating>& gatings, const Options& options,
            const dm::InterruptGuard& guard) {
  const dm::PaddedDataset& data = task.data.held_out;
  const std::vector<dm::Review>& reviews = task.parts.held_out;
  const auto found = dm::score_masks(*task.model, data, gatings,
                                     {.scorer = dm::scorer::classes(kClassNames.size()),
                                      .controls = {dm::control::random(/*draws=*/5)},
                                      .seed = options.seed,
                                      .batch_size = 128,
                                      .progress = guard.callback()});
  fmt::print("{}\n{}", found.full_report("held out"), found.brief_report());
  auto figures = nlohmann::json::parse(found.json());
  const dm::Batch batch = data.batch(dm::iota(data.size()));
  for (const dm::Gating& gating : gatings) {
    if (lexicon.empty()) continue;
    const auto attribution = gating.method.attribute(batch);
    figures[gating.name == "input" ? "valence" : "valence_hidden"] =
        told_means(fmt::format("{} gating, depths of {} that a word survives, by valence",
                               gating.name, attribution.sites.size()),
                   dm::valence_names(), dm::survival_by_valence(attribution, reviews, lexicon));
  }
  const int64_t shown = std::min<int64_t>(20, batch.size());
  const auto predicted = task.model->record(batch.inputs).output().argmax(1);
  const auto maps =
      dm::review_heatmaps(dm::attribute(gatings, batch), reviews, kClassNames,
                          predicted.narrow(0, 0, shown), batch.labels.narrow(0, 0, shown));
  fmt::print("\n{}\n", dm::terminal_heatmap(maps[0], /*colour=*/::isatty(1) != 0));
  dm::write_file(options.html,
                 dm::html_report("What the classifier needs",
                                 "Twenty held-out reviews. A cell shows the probability that a "
                                 "word's state is needed at a depth.",
                                 maps));
  if (!options.picture.empty()) dm::write_file(options.picture, dm::svg_heatmap(maps[0]));
  write_json(options.json, figures);
  fmt::print("wrote {}\n", options.html);
}

int run(const Options& options) {
  // The operators are too small to be worth two threads each.
  at::set_num_threads(1);
  const dm::InterruptGuard guard;
  const auto reviews = options.made() ? dm::made_reviews(300, dm::make_generator(0))
                                      : dm::read_reviews(options.data);
  auto lexicon = options.made() ? dm::made_lexicon() : std::map<std::string, double>();
  if (!options.lexicon.empty()) lexicon = dm::read_lexicon(options.lexicon);
  const auto task = dm::make_review_task(reviews, kClassNames.size(), options.seed);
  fmt::print("{} reviews to train on, {} to select on, {} held out; {} words\n",
             task.data.training.size(), task.data.development.size(), task.data.held_out.size(),
             task.data.vocabulary.size());

  const auto trained = task.train(options.epochs, watched("classifier", guard));
  fmt::print("classifier: epoch {} of {}, loss {:.4f}, {:.1f} s\n", trained.epoch, options.epochs,
             trained.loss, trained.seconds);
  const auto gatings = fitted(task, options, guard);
  if (guard.interrupted() || !options.save.empty()) {
    const std::string begin = options.save.empty() ? "sentiment" : options.save;
    dm::save_weights(*task.net, begin + "-classifier.safetensors");
    for (const dm::Gating& of : gatings) {
      if (of.method.fitted()) of.method.save(fmt::format("{}-{}.safetensors", begin, of.name));
    }
    fmt::print("saved {}-*.safetensors\n", begin);
  }
  check_interrupt();
  report(task, lexicon, gatings, options, guard);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which words of a review does a classifier need, and at which depth does it know?");
  Options options;
  options.html = "sentiment.html";
  options.add_to(app, "Reviews: text<TAB>rating, or id<TAB>rating<TAB>text");
  app.add_option("--lexicon", options.lexicon, "Valences of words: word<TAB>valence");
  app.add_option("--picture", options.picture, "Write the first review's picture here, as SVG");
  app.add_option("--save", options.save,
                 "Save classifier and explainers under names that begin so; Ctrl-C does it anyway");
  add_option(app, "--epochs", options.epochs, "Epochs of the classifier");
  add_option(app, "--steps", options.steps, "Steps of each explainer");
  add_option(app, "--input-epsilon", options.input_epsilon, "Divergence allowed, in nats: inputs");
  add_option(app, "--hidden-epsilon", options.hidden_epsilon, "Divergence allowed: hidden states");
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) options.epochs = 2, options.steps = 10;
  return reported("sentiment", [&] { return run(options); });
}
