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

#include <future>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/data/reviews.hpp"
#include "diffmask/zoo/nets/gru_classifier.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "program.hpp"

namespace dm = diffmask;

namespace {

constexpr int64_t kClasses = 5;
const std::vector<std::string> kClassNames = {"very bad", "bad", "middling", "good", "very good"};

struct Options : CommonOptions {
  std::string lexicon, picture, save;
  int64_t epochs = 5, steps = 600;
  double input_epsilon = 0.025, hidden_epsilon = 0.03;
};

// Recordings are values and the model is only read, so both are trained at once, one per core.
void fit(dm::DiffMask& input, dm::DiffMask& hidden, const dm::Dataset& training,
         const dm::Dataset& development, const Options& options, const dm::InterruptGuard& guard) {
  const auto fit_one = [&](dm::DiffMask& method, double epsilon,
                           const std::vector<dm::Callback>& callbacks) {
    at::set_num_threads(1);
    dm::TrainerOptions trainer{.epsilon = epsilon,
                               .steps = options.steps,
                               .batches = {.batch_size = 64, .by_length = true},
                               .seed = options.seed,
                               .callbacks = callbacks,
                               .recipe = dm::recipe::reviews()};
    if (options.smoke) trainer.recipe.warm_up = 2;
    return method.fit(training, development, trainer);
  };
  auto beside = std::async(std::launch::async, fit_one, std::ref(hidden), options.hidden_epsilon,
                           std::vector{guard.callback()});
  const auto of_input = fit_one(input, options.input_epsilon, watched("explainers", guard));
  fmt::print("\ninput: {}\nhidden: {}\n", of_input.full_report(), beside.get().full_report());
}

// What the masks cost, which words survive, and a picture of the first twenty reviews.
void report(const dm::FrozenModel& model, const dm::ReviewDatasets& data,
            const std::vector<dm::Review>& reviews, const std::map<std::string, double>& lexicon,
            const std::vector<dm::Gating>& gatings, const Options& options,
            const dm::InterruptGuard& guard) {
  const auto found = dm::score_masks(model, data.held_out, gatings,
                                     {.scorer = dm::scorer::classes(kClasses),
                                      .controls = {dm::control::random(/*draws=*/5)},
                                      .seed = options.seed,
                                      .batch_size = 128,
                                      .progress = guard.callback()});
  fmt::print("{}\n{}", found.full_report("held out"), found.brief_report());
  auto figures = nlohmann::json::parse(found.json());
  const dm::Batch batch = data.held_out.batch(dm::iota(data.held_out.size()));
  for (const dm::Gating& gating : gatings) {
    if (lexicon.empty()) continue;
    const auto attribution = gating.method.attribute(batch);
    figures[gating.name == "input" ? "valence" : "valence_hidden"] =
        told_means(fmt::format("{} gating, depths of {} that a word survives, by valence",
                               gating.name, attribution.sites.size()),
                   dm::valence_names(), dm::survival_by_valence(attribution, reviews, lexicon));
  }
  const int64_t shown = std::min<int64_t>(20, batch.size());
  const auto predicted = model.record(batch.inputs).output().argmax(1);
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

std::shared_ptr<dm::GruClassifier> classifier(const dm::ReviewDatasets& data,
                                              const Options& options,
                                              const dm::InterruptGuard& guard) {
  const auto net = std::make_shared<dm::GruClassifier>(
      dm::GruClassifierOptions{.vocabulary = data.vocabulary.size(), .classes = kClasses},
      dm::make_generator(dm::derive_seed(options.seed, 100)));
  const auto trained = dm::train_supervised(
      *net, [net](const dm::Inputs& x) { return net->forward(x[0], x[1]); }, dm::cross_entropy,
      data.training, data.development,
      {.epochs = options.epochs,
       .rate = 8e-3,
       .weight_decay = 0.1,
       .pool = 16,
       .seed = options.seed},
      watched("classifier", guard));
  fmt::print("classifier: epoch {} of {}, loss {:.4f}, {:.1f} s\n", trained.epoch, options.epochs,
             trained.loss, trained.seconds);
  return net;
}

int run(const Options& options) {
  // The operators are too small to be worth two threads each.
  at::set_num_threads(1);
  const dm::InterruptGuard guard;
  const auto parts = dm::split_reviews(options.made() ? dm::made_reviews(300, dm::make_generator(0))
                                                      : dm::read_reviews(options.data));
  auto lexicon = options.made() ? dm::made_lexicon() : std::map<std::string, double>();
  if (!options.lexicon.empty()) lexicon = dm::read_lexicon(options.lexicon);
  const auto data = dm::review_datasets(parts, kClasses);
  fmt::print("{} reviews to train on, {} to select on, {} held out; {} words\n",
             data.training.size(), data.development.size(), data.held_out.size(),
             data.vocabulary.size());

  const auto net = classifier(data, options, guard);
  const auto model = dm::staged(net);
  const auto probe = dm::mlp_probe({.hidden_size = 128, .layer_norm = true});
  dm::DiffMask input(model, {.masking = dm::Masking::input, .probe = probe});
  dm::DiffMask hidden(model, {.masking = dm::Masking::hidden, .probe = probe});
  if (!guard.interrupted()) fit(input, hidden, data.training, data.development, options, guard);
  if (guard.interrupted() || !options.save.empty()) {
    const std::string begin = options.save.empty() ? "sentiment" : options.save;
    dm::save_weights(*net, begin + "-classifier.safetensors");
    if (input.fitted()) input.save(begin + "-input.safetensors");
    if (hidden.fitted()) hidden.save(begin + "-hidden.safetensors");
    fmt::print("saved {}-*.safetensors\n", begin);
  }
  check_interrupt();
  report(*model, data, parts.held_out, lexicon,
         {{"input", input, options.input_epsilon}, {"hidden", hidden, options.hidden_epsilon}},
         options, guard);
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
