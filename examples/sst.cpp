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
#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/report/chart.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "encoders.hpp"
#include "mask_scores.hpp"
#include "review_parts.hpp"
#include "sst_words.hpp"

namespace dm = diffmask;
using nlohmann::json;
using sst::kSentiments;
using sst::Part;

namespace {

constexpr int64_t kClasses = 5;
struct Options {
  std::string data, lexicon, model, rationales, classifier, explainers, gating = "both", html, json,
                                                                        trade_off;
  uint64_t seed = 0;
  int64_t epochs = 3, phrases = 2, steps = 1200, batch_size = 32, threads = 0;
  double input_epsilon = 0.055, hidden_epsilon = 0.05;
  double rate = 0.015, mask_words = 1.0;
  bool words = false, mask_special = false, stability = false, dev = false, bfloat16 = false;
};

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

struct Corpus {
  Part training, development, test;
};

Part encoded(std::vector<dm::LabelledSentence> sentences, const Options& options,
             const dm::WordPiece& tokenizer) {
  return sst::encoded(std::move(sentences), tokenizer,
                      {.explain_special = options.mask_special,
                       .tie_words = options.words,
                       .padding = tokenizer.padding()});
}

// Reviews as if they were the treebank's sentences: ratings in quintiles, words by their valence.
Corpus read_review_corpus(const Options& options, const dm::WordPiece& tokenizer) {
  const ReviewParts parts = split_reviews(dm::read_reviews(options.data));
  std::map<std::string, double> lexicon;
  if (!options.lexicon.empty()) lexicon = dm::read_lexicon(options.lexicon);
  std::vector<double> ratings;
  for (const dm::Review& review : parts.training) ratings.push_back(review.rating);
  const auto borders = dm::quantile_borders(ratings, kClasses);
  const auto part = [&](const std::vector<dm::Review>& reviews) {
    std::vector<dm::LabelledSentence> sentences;
    for (const dm::Review& review : reviews) {
      dm::LabelledSentence sentence{dm::quantile_class(review.rating, borders), {}, {}};
      for (const dm::Word& word : review.words) {
        sentence.words.push_back(word.text);
        sentence.word_labels.push_back(valence_class(lexicon, word.form));
      }
      sentences.push_back(std::move(sentence));
    }
    return encoded(std::move(sentences), options, tokenizer);
  };
  return {part(parts.training), part(parts.development), part(parts.held_out)};
}

Corpus read_corpus(const Options& options, const dm::WordPiece& tokenizer) {
  if (!std::filesystem::is_directory(options.data)) return read_review_corpus(options, tokenizer);
  const auto part = [&](const char* name) {
    return encoded(dm::read_trees(fmt::format("{}/{}.txt", options.data, name)), options,
                   tokenizer);
  };
  return {part("train"), part("dev"), part("test")};
}

dm::TrainerOptions recipe(const Options& options, dm::Masking masking, double epsilon,
                          uint64_t seed) {
  auto trainer = encoder_recipe(masking, epsilon, /*unit=*/1, options.rate);
  trainer.steps = options.steps;
  if (masking == dm::Masking::input) {
    trainer.steps *= 4;  // a step trains two depths, of hidden gating all
    trainer.first_share = 0.1;
    trainer.dropout = 0.3;
  }
  trainer.validate_every = trainer.steps;  // dear: all depths over dev.txt
  trainer.batches.batch_size = options.batch_size;
  trainer.seed = seed;
  return trainer;
}

// A way of masking: its explainer and what it was trained to.
struct Gating {
  std::string name;
  dm::Masking masking;
  double epsilon;
  dm::DiffMask method;
};

std::vector<dm::Heatmap> pictures(const dm::Attribution& attribution,
                                  const dm::WordPiece& tokenizer, const Part& part,
                                  const at::Tensor& predicted, const dm::Batch& batch) {
  std::vector<dm::Heatmap> maps;
  for (int64_t row = 0; row < batch.size(); ++row) {
    const auto i = batch.examples[row].item<int64_t>();
    const dm::Encoding& encoding = part.data.encodings()[static_cast<size_t>(i)];
    const auto names = token_names(tokenizer, encoding, batch.mask[row]);
    const auto name = [](const at::Tensor& label) { return kSentiments[label.item<int64_t>()]; };
    maps.push_back(dm::heatmap(attribution, row, names,
                               fmt::format("Sentence {}: predicted {}, labelled {}", i + 1,
                                           name(predicted[i]), name(part.data.labels()[i]))));
  }
  return maps;
}

// The experiment's steps, in the order of run(); each leaves its figures in the report.
class Experiment {
 public:
  explicit Experiment(const Options& options)
      : options_(options),
        tokenizer_(dm::WordPiece::load(options.model)),
        corpus_(read_corpus(options, tokenizer_)),
        net_(dm::load_bert(options.model, {.classes = kClasses},
                           dm::make_generator(dm::derive_seed(options.seed, 100)))),
        model_(dm::staged(net_)) {
    fmt::print("{} sentences to train on, {} to select on, {} to report on\n",
               corpus_.training.data.size(), corpus_.development.data.size(),
               corpus_.test.data.size());
  }

  int run() {
    fine_tune();
    fit_explainers();
    if (guard_.interrupted()) return 130;
    score();
    for (const Gating& gating : gatings_) explain_words(gating);
    if (!options_.trade_off.empty()) trade_off();
    if (!options_.html.empty()) write_pictures();
    if (guard_.interrupted()) return 130;
    report_["peak_rss_mb"] = peak_rss_mb();
    if (!options_.json.empty()) dm::write_file(options_.json, report_.dump(2) + "\n");
    fmt::print("seconds {}, {:.0f} MB at most\n", report_["seconds"].dump(), peak_rss_mb());
    return 0;
  }

 private:
  const Part& shown() const { return options_.dev ? corpus_.development : corpus_.test; }

  std::vector<dm::Callback> callbacks(const std::string& title) const {
    return {dm::progress_bar(title, stderr, 50), guard_.callback()};
  }

  void fine_tune() {
    report_["seconds"]["fine_tune"] = 0.0;  // where it was loaded
    if (!options_.classifier.empty() && std::filesystem::exists(options_.classifier)) {
      dm::load_weights(*net_, options_.classifier);
      return;
    }
    const Bfloat16Products fast(options_.bfloat16);
    const dm::SupervisedLoss loss = [](const at::Tensor& y, const at::Tensor& c) {
      return at::cross_entropy_loss(y, c);
    };
    const auto generator = dm::make_generator(dm::derive_seed(options_.seed, 102));
    const at::Tensor weights = frequency_weights(corpus_.training.data, tokenizer_.size());
    const dm::ModuleForward forward = [&](const dm::Inputs& x) {
      if (!net_->is_training()) return net_->forward(x);
      return net_->forward(
          with_masked_tokens(x, tokenizer_, options_.mask_words, weights, generator));
    };
    auto supervised = fine_tuning(options_.epochs, /*batch_size=*/32, /*rate=*/1e-4, options_.seed);
    // The loss rises before macro-F1, which is reported, falls.
    supervised.selection = [](const at::Tensor& y, const at::Tensor& c) {
      return 1 - dm::macro_f1(y.argmax(1), c, kClasses);
    };
    const auto phrases = dm::make_generator(dm::derive_seed(options_.seed, 103));
    const Part training =
        encoded(sst::with_phrases(corpus_.training.sentences, options_.phrases, phrases), options_,
                tokenizer_);
    const auto trained =
        dm::train_supervised(*net_, forward, loss, training.data, corpus_.development.data,
                             supervised, callbacks("classifier"));
    fmt::print("classifier: epoch {} of {}, macro-F1 {:.3f} on dev, {:.1f} s\n", trained.epoch,
               options_.epochs, 1 - trained.loss, trained.seconds);
    std::fflush(stdout);
    report_["seconds"]["fine_tune"] = trained.seconds;
    if (!options_.classifier.empty()) dm::save_weights(*net_, options_.classifier);
  }

  Explained fit(dm::Masking masking, double epsilon, uint64_t seed, const std::string& file = "") {
    const bool input = masking == dm::Masking::input;
    const Bfloat16Products fast(options_.bfloat16);
    dm::BaselineOptions baseline;
    if (input && options_.mask_words > 0) {  // what stands for a word is what fine-tuning put there
      const at::Tensor mask = at::full({1, 1}, tokenizer_.mask(), at::kLong);
      baseline = {.start = dm::BaselineOptions::Start::given,
                  .vectors = {net_->embed_words(mask).flatten()}};
    }
    return explain(model_, corpus_.training.data, corpus_.development.data, masking,
                   recipe(options_, masking, epsilon, seed), file,
                   callbacks(input ? "input gating" : "hidden gating"), baseline);
  }

  void fit_explainers() {
    for (const auto& [name, masking, epsilon] :
         {std::tuple{"input", dm::Masking::input, options_.input_epsilon},
          std::tuple{"hidden", dm::Masking::hidden, options_.hidden_epsilon}}) {
      if (options_.gating != "both" && options_.gating != name) continue;
      if (guard_.interrupted()) return;
      const std::string file = options_.explainers.empty()
                                   ? ""
                                   : fmt::format("{}-{}.safetensors", options_.explainers, name);
      auto explained = fit(masking, epsilon, options_.seed, file);
      report_["seconds"][fmt::format("fit_{}", name)] = explained.seconds;
      gatings_.push_back({name, masking, epsilon, std::move(explained.method)});
    }
  }

  // The classifier as it is, and what every depth's masks leave of it.
  void score() {
    const auto began = std::chrono::steady_clock::now();
    predicted_ = dm::predict(*net_, forward_, shown().data, 64).argmax(1);
    report_["seconds"]["forward"] = seconds_since(began);
    const at::Tensor& labels = shown().data.labels();
    const dm::MaskScore original{dm::accuracy(predicted_, labels),
                                 dm::macro_f1(predicted_, labels, kClasses), 0, 0, 1};
    print_head(options_.dev ? "dev" : "test");
    print("original", original);
    report_["original"] = {{"accuracy", original.accuracy}, {"macro_f1", original.macro_f1}};
    for (const Gating& gating : gatings_) score_depths(gating, report_);
    for (const Gating& gating : gatings_) {
      const json& chosen = report_[gating.name]["summary"];
      fmt::print(
          "{}: {:.1f}% masked at macro-F1 {:.3f}, at random {:.3f}, as it is {:.3f}\n", gating.name,
          100 * chosen["masked_share"].get<double>(), chosen["macro_f1"].get<double>(),
          report_["random_" + gating.name]["summary"]["macro_f1"].get<double>(), original.macro_f1);
    }
  }

  // Every depth as "<name>" and "random_<name>", and their summary: hidden states are masked at one
  // depth at a time, so all depths count; an input's mask is what the last depth leaves.
  void score_depths(const Gating& gating, json& report) {
    dm::RecordedBatches data(*model_, shown().data, model_->site_names(), {.batch_size = 64});
    const dm::Explainer& explainer = gating.method.explainer();
    const int64_t depths = explainer.depths();
    const bool hidden = gating.masking == dm::Masking::hidden;
    dm::MaskScores sum;
    for (int64_t depth = 0; depth < depths; ++depth) {
      const std::string& site = explainer.sites()[static_cast<size_t>(depth)];
      const auto scores =
          dm::score_depth(*model_, explainer, depth, data, gating.epsilon, kClasses, /*draws=*/1,
                          dm::make_generator(dm::derive_seed(options_.seed, 200 + depth)));
      print(fmt::format("{}, {}", gating.name, site), scores.chosen);
      print("  at random", scores.random);
      for (const auto& [key, score] : {std::pair{gating.name, scores.chosen},
                                       std::pair{"random_" + gating.name, scores.random}}) {
        json row = to_json(score);
        row["depth"] = site;
        report[key]["depths"].push_back(row);
      }
      const double weight = hidden               ? 1.0 / static_cast<double>(depths)
                            : depth + 1 < depths ? 0.0
                                                 : 1.0;
      sum.chosen.add(scores.chosen, weight);
      sum.random.add(scores.random, weight);
    }
    report[gating.name]["summary"] = to_json(sum.chosen);
    report["random_" + gating.name]["summary"] = to_json(sum.random);
    report[gating.name]["epsilon"] = gating.epsilon;
  }

  // Which words survive: by their sentiment, beside what people marked, and with another seed.
  void explain_words(const Gating& gating) {
    const bool input = gating.masking == dm::Masking::input;
    const std::string suffix = input ? "" : "_hidden";
    const auto began = std::chrono::steady_clock::now();
    const auto scores = sst::attribute_all(gating.method, shown().data);
    report_["seconds"]["attribute" + suffix] = seconds_since(began);
    json& sentiment = report_["sentiment" + suffix] = sst::survival(scores, shown());
    fmt::print("\n{} gating, mean depths of {} that a word survives, by its sentiment: ",
               gating.name, gating.method.explainer().depths());
    for (const std::string& name : kSentiments) {
      fmt::print("{} {:.2f}  ", name, sentiment[name].get<double>());
    }
    fmt::print("\n");
    if (!options_.rationales.empty() && input) {
      const auto rationales = dm::read_rationales(options_.rationales);
      const auto generator = dm::make_generator(dm::derive_seed(options_.seed, 300));
      sst::Plausibility plausibility;
      for (const auto& [split, part] :
           {std::pair{"dev", &corpus_.development}, std::pair{"test", &corpus_.test}}) {
        plausibility.add(rationales, split, *part,
                         part == &shown() ? scores : sst::attribute_all(gating.method, part->data),
                         generator);
      }
      report_["rationales"] = plausibility.to_json();
      fmt::print("rationales, token F1: {}\n", report_["rationales"].dump());
    }
    if (options_.stability) {
      const auto other = fit(gating.masking, gating.epsilon, options_.seed + 1);
      const double agreement =
          sst::rank_agreement(scores, sst::attribute_all(other.method, shown().data));
      report_["stability"]["spearman_between_seeds" + suffix] = agreement;
      fmt::print("Spearman between two seeds: {:.3f}\n", agreement);
    }
  }

  // From the strictest epsilon on, each explainer is trained on from the one before.
  void trade_off() {
    dm::Chart chart{"What masks cost", "share masked", "macro-F1", {}};
    const double original = report_["original"]["macro_f1"];
    chart.curves.push_back({"as it is", {{0.0, original}, {1.0, original}}, /*dashed=*/true});
    fmt::print("\n  {:<8} {:>8}  {:>7}  {:>8}  {:>9}\n", "gating", "epsilon", "masked", "macro-F1",
               "at random");
    for (const Gating& gating : gatings_) {
      dm::Curve chosen{gating.name, {}}, random{gating.name + ", random", {}, /*dashed=*/true};
      std::optional<dm::DiffMask> method;
      for (const double epsilon : {0.01, 0.02, 0.05, 0.1, 0.2}) {
        if (guard_.interrupted()) return;
        json rows;
        if (method) {
          const Bfloat16Products fast(options_.bfloat16);
          auto trainer = recipe(options_, gating.masking, epsilon, options_.seed);
          trainer.warm_up = 0;
          trainer.steps = trainer.validate_every = std::max<int64_t>(trainer.steps / 2, 1);
          method->refine(corpus_.training.data, corpus_.development.data, trainer,
                         callbacks(fmt::format("{} gating, epsilon {}", gating.name, epsilon)));
        } else {
          method = fit(gating.masking, epsilon, options_.seed).method;
        }
        score_depths({gating.name, gating.masking, epsilon, *method}, rows);
        json& row = rows[gating.name];
        row["random"] = rows["random_" + gating.name]["summary"];
        const double masked = row["summary"]["masked_share"], f1 = row["summary"]["macro_f1"],
                     random_f1 = row["random"]["macro_f1"];
        fmt::print("  {:<8} {:>8.2f}  {:>6.1f}%  {:>8.3f}  {:>9.3f}\n", gating.name, epsilon,
                   100 * masked, f1, random_f1);
        chosen.points.emplace_back(masked, f1);
        random.points.emplace_back(masked, random_f1);
        report_["trade_off"][gating.name].push_back(row);
      }
      chart.curves.push_back(chosen);
      chart.curves.push_back(random);
    }
    dm::write_file(options_.trade_off, dm::svg_chart(chart));
  }

  void write_pictures() {
    const dm::Batch batch = shown().data.batch(dm::iota(20));
    std::vector<std::pair<std::string, dm::Attribution>> named;
    for (const Gating& g : gatings_) named.emplace_back(g.name, g.method.attribute(batch));
    const auto maps = pictures(dm::side_by_side(named), tokenizer_, shown(), predicted_, batch);
    fmt::print("\n{}\n", dm::terminal_heatmap(maps[0], /*colour=*/::isatty(1) != 0));
    dm::write_file(options_.html,
                   dm::html_report("What the encoder needs to tell a sentence's sentiment",
                                   "Twenty sentences. A cell shows the probability that a token's "
                                   "state is needed at a depth.",
                                   maps));
  }

  const Options& options_;
  dm::WordPiece tokenizer_;
  Corpus corpus_;
  std::shared_ptr<dm::Bert> net_;
  std::shared_ptr<dm::StagedModel> model_;
  std::function<at::Tensor(const dm::Inputs&)> forward_ = [net = net_](const dm::Inputs& x) {
    return net->forward(x);
  };
  dm::InterruptGuard guard_;
  std::vector<Gating> gatings_;
  at::Tensor predicted_;
  json report_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which words does a Transformer need to tell a sentiment, and where does it know?");
  Options options;
  app.add_option("--data", options.data,
                 "Folder of the treebank's train.txt, dev.txt, test.txt; or a file of reviews: "
                 "text<TAB>rating, or id<TAB>rating<TAB>text")
      ->required();
  app.add_option("--lexicon", options.lexicon, "Valences of the reviews' words: word<TAB>valence");
  app.add_option("--model", options.model, "Hugging Face folder of an encoder")->required();
  app.add_option("--rationales", options.rationales,
                 "Table of FairRationales: fair_rationales_sst.tsv");
  app.add_option("--classifier", options.classifier,
                 "The fine-tuned weights: loaded where the file is there, else written");
  app.add_option("--explainers", options.explainers,
                 "Begin of the explainers' files: loaded where they are there, else written");
  app.add_option("--gating", options.gating, "What is masked")
      ->check(CLI::IsMember({"input", "hidden", "both"}))
      ->capture_default_str();
  app.add_option("--html", options.html, "Write pictures of twenty sentences here");
  app.add_option("--json", options.json, "Write the figures here");
  app.add_option("--seed", options.seed, "Seed of all that is drawn")->capture_default_str();
  app.add_option("--epochs", options.epochs, "Epochs of fine-tuning")->capture_default_str();
  app.add_option(
         "--phrases", options.phrases,
         "Fine-tune on so many phrases of each of the treebank's sentences, too, of four words or "
         "more and with their own labels")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--mask-words", options.mask_words,
                 "In fine-tuning each sentence loses words, at a rate uniform on 0 to this, of "
                 "which rarer words have less, down to half")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--steps", options.steps,
                 "Steps of hidden gating's explainer; input gating's takes four times as many")
      ->capture_default_str();
  app.add_option("--batch-size", options.batch_size, "Sentences a step")->capture_default_str();
  app.add_option("--rate", options.rate, "Step size of the explainers")->capture_default_str();
  app.add_option("--input-epsilon", options.input_epsilon, "Divergence allowed, in nats: inputs")
      ->capture_default_str();
  app.add_option("--hidden-epsilon", options.hidden_epsilon, "Divergence allowed: hidden states")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads; 0: one a core")->capture_default_str();
  app.add_flag("--words", options.words, "One gate for the sub-words of a word");
  app.add_flag("--mask-special", options.mask_special,
               "Let [CLS] and [SEP] be masked, too; they are kept otherwise");
  app.add_option("--trade-off", options.trade_off,
                 "Train at epsilon 0.01, 0.02, 0.05, 0.1 and 0.2, too, and write their chart here, "
                 "as SVG: four times the time");
  app.add_flag("--stability", options.stability,
               "Train with another seed, too, and compare: twice the time");
  app.add_flag("--bfloat16", options.bfloat16,
               "Train with matrix products in bfloat16, where the processor has them: faster; what "
               "is reported is computed in float32 all the same");
  app.add_flag("--dev", options.dev, "Report on dev.txt, to make choices, in place of test.txt");
  CLI11_PARSE(app, argc, argv);
  return reported("sst", [&] {
    use_threads(options.threads);
    return Experiment(options).run();
  });
}
