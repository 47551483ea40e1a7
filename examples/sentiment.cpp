// Which words of real movie reviews does a trained classifier need, and at which depth does it
// know?
//
//   ./examples/run                    gets the data, trains everything, writes sentiment.html
//   ./examples/run --data FILE        another file of text<TAB>rating lines
//
// Trains a classifier of five rating classes (quintiles), then DiffMask by input and by hidden
// states, and prints for the held-out tenth: how well the classifier does as it is, with what
// DiffMask masks taken away, and with as much taken away at random. Expect masks that cost nothing,
// random ones that do.
#include <CLI/CLI.hpp>
#include <chrono>
#include <future>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/data/reviews.hpp"
#include "diffmask/zoo/nets/gru_classifier.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "mask_scores.hpp"
#include "program.hpp"
#include "review_parts.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

constexpr int64_t kClasses = 5;
const std::vector<std::string> kClassNames = {"very bad", "bad", "middling", "good", "very good"};
const std::vector<std::string> kValenceNames = {"very negative", "negative", "none", "positive",
                                                "very positive"};

struct Options {
  std::string data, lexicon, html = "sentiment.html", json, picture, save;
  uint64_t seed = 0;
  int64_t epochs = 5, steps = 600;
  double input_epsilon = 0.025, hidden_epsilon = 0.03;
};

dm::TrainerOptions recipe(const Options& options, double epsilon) {
  dm::TrainerOptions trainer;
  trainer.epsilon = epsilon;
  trainer.steps = options.steps;
  trainer.batches = {.batch_size = 64, .by_length = true};
  trainer.expected_every = 2;
  trainer.warm_up = 60;
  trainer.final_rate = 0.05;
  trainer.criterion = dm::TrainerOptions::Criterion::hard;  // hard masks are what is reported
  trainer.validate_every = 100;
  trainer.seed = options.seed;
  return trainer;
}

// Mean number of depths that a word of each valence survives.
std::vector<double> survival(const dm::Attribution& attribution,
                             const std::vector<dm::Review>& reviews,
                             const std::map<std::string, double>& lexicon) {
  const at::Tensor depths = attribution.depths_survived().contiguous();
  const auto values = depths.accessor<float, 2>();
  std::vector<double> sums(kValenceNames.size(), 0.0), counts(kValenceNames.size(), 0.0);
  for (size_t i = 0; i < reviews.size(); ++i) {
    for (size_t t = 0; t < reviews[i].words.size(); ++t) {
      const auto c = static_cast<size_t>(valence_class(lexicon, reviews[i].words[t].form));
      sums[c] += values[static_cast<int64_t>(i)][static_cast<int64_t>(t)];
      counts[c] += 1;
    }
  }
  for (size_t c = 0; c < sums.size(); ++c) sums[c] /= std::max(counts[c], 1.0);
  return sums;
}

// Both ways of masking below one another.
std::vector<dm::Heatmap> pictures(const dm::Attribution& input, const dm::Attribution& hidden,
                                  const std::vector<dm::Review>& reviews,
                                  const at::Tensor& predicted, const at::Tensor& labels,
                                  int64_t count) {
  const auto both = dm::side_by_side({{"input", input}, {"hidden", hidden}});
  std::vector<dm::Heatmap> maps;
  for (int64_t i = 0; i < std::min<int64_t>(count, predicted.size(0)); ++i) {
    std::vector<std::string> names;
    for (const dm::Word& word : reviews[static_cast<size_t>(i)].words) names.push_back(word.text);
    maps.push_back(dm::heatmap(both, i, names,
                               fmt::format("Review {}: predicted {}, rated {}", i + 1,
                                           kClassNames[predicted[i].item<int64_t>()],
                                           kClassNames[labels[i].item<int64_t>()])));
  }
  return maps;
}

// The classifier and what has been trained of the explainers.
void save(const Options& options, const dm::GruClassifier& net, const dm::DiffMask& input,
          const dm::DiffMask& hidden) {
  const std::string begin = options.save.empty() ? "sentiment" : options.save;
  dm::save_weights(net, begin + "-classifier.safetensors");
  if (input.fitted()) input.save(begin + "-input.safetensors");
  if (hidden.fitted()) hidden.save(begin + "-hidden.safetensors");
  fmt::print("saved {}-*.safetensors\n", begin);
}

int run(const Options& options) {
  // The operators are too small to be worth two threads each.
  at::set_num_threads(1);
  const auto began = std::chrono::steady_clock::now();
  const dm::InterruptGuard guard;
  const auto callbacks = [&](const std::string& title) {
    return std::vector<dm::Callback>{dm::progress_bar(title), guard.callback()};
  };

  const ReviewParts parts = split_reviews(dm::read_reviews(options.data));
  std::map<std::string, double> lexicon;
  if (!options.lexicon.empty()) lexicon = dm::read_lexicon(options.lexicon);
  std::vector<std::vector<dm::Word>> texts;
  std::vector<double> ratings;
  for (const dm::Review& review : parts.training) {
    texts.push_back(review.words);
    ratings.push_back(review.rating);
  }
  const dm::Vocabulary vocabulary(texts, /*least=*/2);
  const auto borders = dm::quantile_borders(ratings, kClasses);
  const auto training = dm::review_dataset(parts.training, vocabulary, borders);
  const auto development = dm::review_dataset(parts.development, vocabulary, borders);
  const auto held_out = dm::review_dataset(parts.held_out, vocabulary, borders);
  fmt::print("{} reviews to train on, {} to select on, {} held out; {} words\n", training.size(),
             development.size(), held_out.size(), vocabulary.size());

  const auto net = std::make_shared<dm::GruClassifier>(
      dm::GruClassifierOptions{.vocabulary = vocabulary.size(), .classes = kClasses},
      dm::make_generator(dm::derive_seed(options.seed, 100)));
  dm::SupervisedOptions supervised{.epochs = options.epochs, .rate = 8e-3, .weight_decay = 0.1};
  supervised.pool = 16;
  supervised.seed = options.seed;
  const auto forward = [net](const dm::Inputs& x) { return net->forward(x[0], x[1]); };
  const dm::SupervisedLoss loss = [](const at::Tensor& y, const at::Tensor& c) {
    return at::cross_entropy_loss(y, c);
  };
  const auto trained = dm::train_supervised(*net, forward, loss, training, development, supervised,
                                            callbacks("classifier"));
  fmt::print("classifier: epoch {} of {}, loss {:.4f}, {:.1f} s\n", trained.epoch, options.epochs,
             trained.loss, trained.seconds);

  const auto model = dm::staged(net);
  dm::DiffMask input(
      model, {.masking = dm::Masking::input, .probe = {.hidden_size = 128, .layer_norm = true}});
  dm::DiffMask hidden(
      model, {.masking = dm::Masking::hidden, .probe = {.hidden_size = 128, .layer_norm = true}});
  const auto fit = [&](dm::DiffMask& method, double epsilon,
                       const std::vector<dm::Callback>& watchers) {
    at::set_num_threads(1);
    return method.fit(training, development, recipe(options, epsilon), watchers);
  };
  if (!guard.interrupted()) {
    // Recordings are values and the model is only read, so both are trained at once, one a core.
    auto beside = std::async(std::launch::async, fit, std::ref(hidden), options.hidden_epsilon,
                             std::vector{guard.callback()});
    const dm::Summary of_input = fit(input, options.input_epsilon, callbacks("explainers"));
    const dm::Summary of_hidden = beside.get();
    fmt::print("\ninput: {}\nhidden: {}", of_input.full_report(), of_hidden.full_report());
  }
  if (guard.interrupted() || !options.save.empty()) save(options, *net, input, hidden);
  if (guard.interrupted()) return 130;

  dm::RecordedBatches recorded(*model, held_out, model->site_names(), {.batch_size = 128});
  json report;
  print_head("held out");
  const at::Tensor predicted = dm::predict(*net, forward, held_out).argmax(1);
  const dm::MaskScore original{dm::accuracy(predicted, held_out.labels()),
                               dm::macro_f1(predicted, held_out.labels(), kClasses), 0, 0, 1};
  print("original", original);
  report["original"] = to_json(original);
  for (auto [method, name] : {std::pair{&input, "input"}, std::pair{&hidden, "hidden"}}) {
    dm::MaskScores mean;
    const auto sites = method->explainer().sites();
    for (size_t depth = 0; depth < sites.size(); ++depth) {
      const auto at_depth = dm::score_depth(
          *model, method->explainer(), static_cast<int64_t>(depth), recorded,
          method == &input ? options.input_epsilon : options.hidden_epsilon, kClasses, /*draws=*/5,
          dm::make_generator(dm::derive_seed(options.seed, 200 + depth)));
      print(fmt::format("{}, {}", name, sites[depth]), at_depth.chosen);
      print("  at random", at_depth.random);
      report["sites"][name][sites[depth]] = {{"masked", to_json(at_depth.chosen)},
                                             {"random", to_json(at_depth.random)}};
      // Hidden states are masked at one depth at a time; an input's mask is what the last depth
      // leaves.
      const double weight = method == &hidden ? 1.0 / static_cast<double>(sites.size())
                                              : (depth + 1 == sites.size() ? 1.0 : 0.0);
      mean.chosen.add(at_depth.chosen, weight);
      mean.random.add(at_depth.random, weight);
    }
    report[name] = to_json(mean.chosen);
    report[fmt::format("random_{}", name)] = to_json(mean.random);
  }
  for (const char* name : {"input", "hidden"}) {
    const json& s = report[name];
    fmt::print("{}: {:.1f}% masked at macro-F1 {:.3f}, at random {:.3f}, as it is {:.3f}\n", name,
               100 * s["masked_share"].get<double>(), s["macro_f1"].get<double>(),
               report[fmt::format("random_{}", name)]["macro_f1"].get<double>(), original.macro_f1);
  }

  const dm::Batch batch = held_out.batch(dm::iota(held_out.size()));
  const auto by_input = input.attribute(batch), by_hidden = hidden.attribute(batch);
  if (!lexicon.empty()) {
    const auto of_input = survival(by_input, parts.held_out, lexicon);
    const auto of_hidden = survival(by_hidden, parts.held_out, lexicon);
    fmt::print("\n  {:<16} {:>6}  {:>6}   depths of {} survived, by a word's valence\n", "valence",
               "input", "hidden", by_input.sites.size());
    for (size_t c = 0; c < kValenceNames.size(); ++c) {
      fmt::print("  {:<16} {:>6.2f}  {:>6.2f}\n", kValenceNames[c], of_input[c], of_hidden[c]);
      report["valence"][kValenceNames[c]] = of_input[c];
      report["valence_hidden"][kValenceNames[c]] = of_hidden[c];
    }
  }
  const auto maps = pictures(by_input, by_hidden, parts.held_out, predicted, held_out.labels(), 20);
  fmt::print("\n{}\n", dm::terminal_heatmap(maps[0], /*colour=*/::isatty(1) != 0));
  dm::write_file(options.html,
                 dm::html_report("What the classifier needs",
                                 "Twenty held-out reviews. A cell shows the "
                                 "probability that a word's state is needed at a depth.",
                                 maps));
  if (!options.picture.empty()) dm::write_file(options.picture, dm::svg_heatmap(maps[0]));
  if (!options.json.empty()) dm::write_file(options.json, report.dump(2) + "\n");
  fmt::print("wrote {}; {:.0f} s in all\n", options.html,
             std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which words of a review does a classifier need, and at which depth does it know?");
  Options options;
  app.add_option("--data", options.data, "Reviews: text<TAB>rating, or id<TAB>rating<TAB>text")
      ->required();
  app.add_option("--lexicon", options.lexicon, "Valences of words: word<TAB>valence");
  app.add_option("--html", options.html, "Write the report here")->capture_default_str();
  app.add_option("--json", options.json, "Write the figures here");
  app.add_option("--picture", options.picture, "Write the first review's picture here, as SVG");
  app.add_option("--save", options.save,
                 "Save classifier and explainers under names that begin so; Ctrl-C does it anyway");
  app.add_option("--seed", options.seed, "Seed of all that is drawn")->capture_default_str();
  app.add_option("--epochs", options.epochs, "Epochs of the classifier")->capture_default_str();
  app.add_option("--steps", options.steps, "Steps of each explainer")->capture_default_str();
  app.add_option("--input-epsilon", options.input_epsilon, "Divergence allowed, in nats: inputs")
      ->capture_default_str();
  app.add_option("--hidden-epsilon", options.hidden_epsilon, "Divergence allowed: hidden states")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return reported("sentiment", [&] { return run(options); });
}
