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
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <thread>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/encoded.hpp"
#include "diffmask/data/rationales.hpp"
#include "diffmask/data/trees.hpp"
#include "diffmask/metrics/agreement.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/nets/bert.hpp"
#include "diffmask/nets/weights.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/train/supervised.hpp"
#include "mask_scores.hpp"
#include "review_parts.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

constexpr int64_t kClasses = 5;
const std::vector<std::string> kSentiments = {"very_negative", "negative", "neutral", "positive",
                                              "very_positive"};
// Explainers are trained to this share of the epsilon asked for, so that what holds on the
// sentences they were selected on holds on others, too.
constexpr double kMargin = 0.7;

struct Options {
  std::string data, lexicon, model, rationales, classifier, explainers, gating = "both", html, json;
  uint64_t seed = 0;
  int64_t epochs = 3, steps = 600, batch_size = 16, validations = 2, threads = 0;
  double input_epsilon = 0.1, hidden_epsilon = 0.1;  // the paper's
  double rate = 8e-3, first_share = 0.5, multiplier = 15, multiplier_rate = 1;
  bool words = false, mask_special = false, stability = false, trade_off = false, dev = false;
};

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

// Sentences as they are, and as the encoder reads them.
struct Part {
  std::vector<dm::LabelledSentence> sentences;
  dm::EncodedDataset data;
};

struct Corpus {
  Part training, development, test;
};

Part encoded(std::vector<dm::LabelledSentence> sentences, const Options& options,
             const dm::WordPiece& tokenizer) {
  std::vector<dm::Encoding> encodings;
  std::vector<int64_t> labels;
  for (const dm::LabelledSentence& sentence : sentences) {
    encodings.push_back(tokenizer.encode_words(sentence.words));
    labels.push_back(sentence.label);
  }
  dm::EncodedDataset data(std::move(encodings), at::tensor(labels, at::kLong),
                          {.explain_special = options.mask_special,
                           .tie_words = options.words,
                           .padding = tokenizer.padding()});
  return {std::move(sentences), std::move(data)};
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

dm::SupervisedOptions fine_tuning(const Options& options) {
  dm::SupervisedOptions supervised;
  supervised.epochs = options.epochs;
  supervised.batch_size = 32;
  supervised.rate = 1e-4;
  supervised.final_rate = 0.01;
  supervised.warm_up = 0.1;
  supervised.weight_decay = 0.01;
  supervised.decay_vectors = false;
  supervised.pool = 32;
  supervised.seed = options.seed;
  return supervised;
}

dm::TrainerOptions recipe(const Options& options, dm::Masking masking, double epsilon) {
  const bool input = masking == dm::Masking::input;
  dm::TrainerOptions trainer;
  trainer.epsilon = kMargin * epsilon;
  trainer.steps = options.steps;
  trainer.batches = {.batch_size = options.batch_size, .by_length = true};
  trainer.expected_every = 2;
  trainer.warm_up = 50;
  // A multiplier that has climbed to 200 takes 200 steps to come down, with every gate open.
  trainer.multiplier.initial = options.multiplier;
  trainer.multiplier.maximum = 3 * options.multiplier;
  trainer.multiplier.rate = options.multiplier_rate;
  trainer.gate_rate = trainer.baseline_rate = options.rate;
  trainer.final_rate = 0.05;
  if (input) {
    trainer.schedule = dm::TrainerOptions::Schedule::deepest_and_random;
    trainer.first_share = options.first_share;
  }
  trainer.criterion = dm::TrainerOptions::Criterion::hard;  // hard masks are what is reported
  trainer.validate_every = std::max<int64_t>(options.steps / options.validations, 1);
  trainer.seed = options.seed;
  return trainer;
}

// The explainer, from its file if there is one.
struct Explained {
  dm::DiffMask method;
  double seconds = 0.0;  // 0 where it was loaded
};

Explained explain(const Options& options, const std::shared_ptr<dm::StagedModel>& model,
                  const Part& training, const Part& development, dm::Masking masking,
                  double epsilon, const std::string& file,
                  const std::vector<dm::Callback>& callbacks) {
  if (!file.empty() && std::filesystem::exists(file)) return {dm::DiffMask::load(file, model)};
  dm::DiffMask method(model,
                      {.masking = masking, .probe = {.hidden_size = 128, .layer_norm = true}});
  const auto summary =
      method.fit(training.data, development.data, recipe(options, masking, epsilon), callbacks);
  fmt::print("{}", summary.full_report());
  std::fflush(stdout);
  if (!file.empty()) method.save(file);
  return {std::move(method), summary.seconds};
}

// A way of masking: its explainer and what it was trained to.
struct Gating {
  std::string name;
  dm::Masking masking;
  double epsilon;
  dm::DiffMask method;
};

// Scores and prints every depth; "<name>" and "random_<name>" of the report. Sums up: hidden states
// are masked at one depth at a time, so all depths count; an input's mask is what the last depth
// leaves.
dm::MaskScores report_depths(const dm::StagedModel& model, const Gating& gating,
                             dm::RecordedBatches& data, uint64_t seed, json& report) {
  const dm::Explainer& explainer = gating.method.explainer();
  const std::string& name = gating.name;
  dm::MaskScores sum;
  for (int64_t depth = 0; depth < explainer.depths(); ++depth) {
    const std::string& site = explainer.sites()[static_cast<size_t>(depth)];
    const auto scores =
        dm::score_depth(model, explainer, depth, data, gating.epsilon, kClasses, /*draws=*/1,
                        dm::make_generator(dm::derive_seed(seed, 200 + depth)));
    print(fmt::format("{}, {}", name, site), scores.chosen);
    print("  at random", scores.random);
    for (const auto& [key, score] :
         {std::pair{name, scores.chosen}, std::pair{"random_" + name, scores.random}}) {
      json row = to_json(score);
      row["depth"] = site;
      report[key]["depths"].push_back(row);
    }
    const double weight = gating.masking == dm::Masking::hidden
                              ? 1.0 / static_cast<double>(explainer.depths())
                              : (depth + 1 == explainer.depths() ? 1.0 : 0.0);
    sum.chosen.add(scores.chosen, weight);
    sum.random.add(scores.random, weight);
  }
  report[name]["summary"] = to_json(sum.chosen);
  report["random_" + name]["summary"] = to_json(sum.random);
  report[name]["epsilon"] = gating.epsilon;
  return sum;
}

// The scores of each sentence. Shape: (T, depths) each.
std::vector<at::Tensor> attribute_all(const dm::DiffMask& method, const dm::Dataset& data) {
  std::vector<at::Tensor> scores(static_cast<size_t>(data.size()));
  for (const auto& examples : dm::length_batches(data, 64)) {
    const auto attribution = method.attribute(data.batch(examples));
    for (size_t row = 0; row < examples.size(); ++row) {
      scores[static_cast<size_t>(examples[row])] =
          attribution.scores[static_cast<int64_t>(row)].narrow(0, 0, data.length(examples[row]));
    }
  }
  return scores;
}

// Mean number of depths that a word survives, by the label that its leaf has in the tree: the sum
// over depths of P(z != 0), the mean over a word's tokens.
json survival(const std::vector<at::Tensor>& scores, const Part& part) {
  std::vector<double> sums(kSentiments.size(), 0.0), counts(kSentiments.size(), 0.0);
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto& labels = part.sentences[i].word_labels;
    const auto depths = dm::word_means(part.data.encodings()[i], scores[i].sum(1),
                                       static_cast<int64_t>(labels.size()));
    for (size_t w = 0; w < labels.size(); ++w) {
      sums[static_cast<size_t>(labels[w])] += depths[w];
      counts[static_cast<size_t>(labels[w])] += 1;
    }
  }
  json result;
  for (size_t c = 0; c < sums.size(); ++c) result[kSentiments[c]] = sums[c] / counts[c];
  return result;
}

// The mean over sentences of the correlation between their words' scores, all depths together.
double rank_agreement(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  double sum = 0.0, count = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double rho = dm::spearman(a[i].flatten(), b[i].flatten());
    if (!std::isfinite(rho)) continue;
    sum += rho;
    count += 1;
  }
  return sum / std::max(count, 1.0);
}

// The words between spaces that hold a chosen word of the tree, whose words are smaller. Both are
// the same text without its spaces, but for a few sentences, which give none.
std::vector<bool> between_spaces(const std::vector<bool>& chosen,
                                 const std::vector<std::string>& leaves,
                                 const std::vector<std::string>& words) {
  std::string of_leaves, of_words;
  std::vector<bool> characters;
  for (size_t i = 0; i < leaves.size(); ++i) {
    of_leaves += leaves[i];
    characters.resize(of_leaves.size(), chosen[i]);
  }
  for (const std::string& word : words) of_words += word;
  if (of_leaves != of_words) return {};
  std::vector<bool> result;
  auto from = characters.begin();
  for (const std::string& word : words) {
    const auto to = from + static_cast<int64_t>(word.size());
    result.push_back(std::find(from, to, true) != to);
    from = to;
  }
  return result;
}

// Token F1 against what people say decided them, the mean over annotators, then over sentences.
struct Plausibility {
  double diffmask = 0, random = 0, uniform = 0;
  int64_t sentences = 0;

  void add(const std::vector<dm::RationaleSentence>& all, const std::string& split,
           const Part& part, const std::vector<at::Tensor>& scores,
           const at::Generator& generator) {
    for (const dm::RationaleSentence& sentence : all) {
      if (sentence.split != split || sentence.line < 0) continue;
      const auto i = static_cast<size_t>(sentence.line);
      const auto& leaves = part.sentences.at(i).words;
      std::vector<bool> kept;
      for (const double p : dm::word_means(part.data.encodings()[i], scores[i].select(1, -1),
                                           static_cast<int64_t>(leaves.size()))) {
        kept.push_back(p > 0.5);
      }
      const auto chosen = between_spaces(kept, leaves, sentence.words);
      if (chosen.empty()) continue;
      std::vector<bool> drawn(chosen.size());
      const auto order = dm::shuffled(static_cast<int64_t>(chosen.size()), generator);
      for (size_t w = 0; w < chosen.size(); ++w) drawn[w] = chosen[static_cast<size_t>(order[w])];
      const std::vector<bool> everything(chosen.size(), true);
      const auto share = 1.0 / static_cast<double>(sentence.rationales.size());
      for (const dm::Rationale& rationale : sentence.rationales) {
        diffmask += share * dm::choice_f1(chosen, rationale.is_decisive);
        random += share * dm::choice_f1(drawn, rationale.is_decisive);
        uniform += share * dm::choice_f1(everything, rationale.is_decisive);
      }
      ++sentences;
    }
  }

  json to_json() const {
    const double n = std::max<double>(static_cast<double>(sentences), 1.0);
    return {{"diffmask", diffmask / n},
            {"random", random / n},
            {"uniform", uniform / n},
            {"sentences", sentences}};
  }
};

std::vector<dm::Heatmap> pictures(const dm::Attribution& attribution,
                                  const dm::WordPiece& tokenizer, const Part& part,
                                  const at::Tensor& predicted, const dm::Batch& batch) {
  std::vector<dm::Heatmap> maps;
  for (int64_t row = 0; row < batch.size(); ++row) {
    const auto i = batch.examples[row].item<int64_t>();
    const dm::Encoding& encoding = part.data.encodings()[static_cast<size_t>(i)];
    std::vector<std::string> names;
    for (int64_t t = 0; t < encoding.size(); ++t) {
      if (batch.mask[row][t].item<bool>())
        names.push_back(tokenizer.token(encoding.ids[static_cast<size_t>(t)]));
    }
    const auto name = [](const at::Tensor& label) { return kSentiments[label.item<int64_t>()]; };
    maps.push_back(dm::heatmap(attribution, row, names,
                               fmt::format("Sentence {}: predicted {}, labelled {}", i + 1,
                                           name(predicted[i]), name(part.data.labels()[i]))));
  }
  return maps;
}

int run(const Options& options) {
  const int cores = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
  at::set_num_threads(options.threads > 0 ? static_cast<int>(options.threads) : cores);
  const dm::InterruptGuard guard;
  const auto callbacks = [&](const std::string& title) {
    return std::vector<dm::Callback>{dm::progress_bar(title, stderr, 50), guard.callback()};
  };
  const auto tokenizer = dm::WordPiece::load(options.model);
  const auto [training, development, test] = read_corpus(options, tokenizer);
  fmt::print("{} sentences to train on, {} to select on, {} to report on\n", training.data.size(),
             development.data.size(), test.data.size());
  json report;

  const auto net = dm::load_bert(options.model, {.classes = kClasses},
                                 dm::make_generator(dm::derive_seed(options.seed, 100)));
  const auto forward = [net](const dm::Inputs& x) { return net->forward(x); };
  const dm::Loss loss = [](const at::Tensor& y, const at::Tensor& c) {
    return at::cross_entropy_loss(y, c);
  };
  if (!options.classifier.empty() && std::filesystem::exists(options.classifier)) {
    dm::load_weights(*net, options.classifier);
  } else {
    const auto trained = dm::train_supervised(*net, forward, loss, training.data, development.data,
                                              fine_tuning(options), callbacks("classifier"));
    fmt::print("classifier: epoch {} of {}, loss {:.4f}, {:.1f} s\n", trained.epoch, options.epochs,
               trained.loss, trained.seconds);
    report["seconds"]["fine_tune"] = trained.seconds;
    if (!options.classifier.empty()) dm::save_weights(*net, options.classifier);
  }
  if (guard.interrupted()) return 130;

  const auto model = dm::staged(net);
  const bool by_input = options.gating != "hidden", by_hidden = options.gating != "input";
  const auto fit = [&](dm::Masking masking, double epsilon, uint64_t seed,
                       const std::string& file) {
    Options own = options;
    own.seed = seed;
    return explain(own, model, training, development, masking, epsilon, file,
                   callbacks(masking == dm::Masking::input ? "input gating" : "hidden gating"));
  };
  std::vector<Gating> gatings;
  for (const auto& [name, masking, epsilon, wanted] :
       {std::tuple{"input", dm::Masking::input, options.input_epsilon, by_input},
        std::tuple{"hidden", dm::Masking::hidden, options.hidden_epsilon, by_hidden}}) {
    if (!wanted) continue;
    const std::string file = options.explainers.empty()
                                 ? ""
                                 : fmt::format("{}-{}.safetensors", options.explainers, name);
    auto explained = fit(masking, epsilon, options.seed, file);
    if (guard.interrupted()) return 130;
    report["seconds"][fmt::format("fit_{}", name)] = explained.seconds;
    gatings.push_back({name, masking, epsilon, std::move(explained.method)});
  }

  const Part& shown = options.dev ? development : test;
  const auto before = std::chrono::steady_clock::now();
  const at::Tensor predicted = dm::predict(forward, shown.data, 64).argmax(1);
  report["seconds"]["forward"] = seconds_since(before);
  const dm::MaskScore original{dm::accuracy(predicted, shown.data.labels()),
                               dm::macro_f1(predicted, shown.data.labels(), kClasses), 0, 0, 1};
  print_head(options.dev ? "dev" : "test");
  print("original", original);
  report["original"] = {{"accuracy", original.accuracy}, {"macro_f1", original.macro_f1}};
  dm::RecordedBatches recorded(*model, shown.data, model->site_names(), {.batch_size = 64});
  std::vector<dm::MaskScores> sums;
  for (const Gating& g : gatings) {
    sums.push_back(report_depths(*model, g, recorded, options.seed, report));
  }
  for (size_t i = 0; i < gatings.size(); ++i) {
    fmt::print("{}: {:.1f}% masked at macro-F1 {:.3f}, at random {:.3f}, as it is {:.3f}\n",
               gatings[i].name, 100 * sums[i].chosen.masked_share, sums[i].chosen.macro_f1,
               sums[i].random.macro_f1, original.macro_f1);
  }

  for (const Gating& g : gatings) {
    const auto began = std::chrono::steady_clock::now();
    const auto scores = attribute_all(g.method, shown.data);
    report["seconds"]["attribute"] = seconds_since(began);  // of one gating
    const std::string suffix = g.name == "input" ? "" : "_hidden", key = "sentiment" + suffix;
    report[key] = survival(scores, shown);
    fmt::print("\n{} gating, mean depths of {} that a word survives, by its sentiment: ", g.name,
               g.method.explainer().depths());
    for (const std::string& name : kSentiments) {
      fmt::print("{} {:.2f}  ", name, report[key][name].get<double>());
    }
    fmt::print("\n");
    if (!options.rationales.empty() && g.name == "input") {
      const auto rationales = dm::read_rationales(options.rationales);
      const auto generator = dm::make_generator(dm::derive_seed(options.seed, 300));
      Plausibility plausibility;
      plausibility.add(rationales, "dev", development,
                       options.dev ? scores : attribute_all(g.method, development.data), generator);
      plausibility.add(rationales, "test", test,
                       options.dev ? attribute_all(g.method, test.data) : scores, generator);
      report["rationales"] = plausibility.to_json();
      fmt::print("rationales, token F1: {}\n", report["rationales"].dump());
    }
    if (options.stability) {
      const auto other = fit(g.masking, g.epsilon, options.seed + 1, "");
      const double agreement = rank_agreement(scores, attribute_all(other.method, shown.data));
      report["stability"]["spearman_between_seeds" + suffix] = agreement;
      fmt::print("Spearman between two seeds: {:.3f}\n", agreement);
    }
  }

  if (options.trade_off) {
    fmt::print("\n  {:<8} {:>8}  {:>7}  {:>8}\n", "gating", "epsilon", "masked", "macro-F1");
    for (const Gating& g : gatings) {
      for (const double epsilon : {0.01, 0.02, 0.05, 0.1, 0.2}) {
        auto explained = fit(g.masking, epsilon, options.seed, "");
        json rows;
        const auto sum =
            report_depths(*model, {g.name, g.masking, epsilon, std::move(explained.method)},
                          recorded, options.seed, rows);
        fmt::print("  {:<8} {:>8.2f}  {:>6.1f}%  {:>8.3f}\n", g.name, epsilon,
                   100 * sum.chosen.masked_share, sum.chosen.macro_f1);
        rows[g.name]["random"] = rows["random_" + g.name]["summary"];
        report["trade_off"][g.name].push_back(rows[g.name]);
      }
    }
  }

  if (!options.html.empty()) {
    const dm::Batch batch = shown.data.batch(dm::iota(20));
    std::vector<std::pair<std::string, dm::Attribution>> named;
    for (const Gating& g : gatings) named.emplace_back(g.name, g.method.attribute(batch));
    const auto maps = pictures(dm::side_by_side(named), tokenizer, shown, predicted, batch);
    fmt::print("\n{}\n", dm::terminal_heatmap(maps[0], /*colour=*/::isatty(1) != 0));
    dm::write_file(options.html,
                   dm::html_report("What the encoder needs to tell a sentence's sentiment",
                                   "Twenty sentences of the treebank. A cell shows the "
                                   "probability that a token's state is needed at a depth.",
                                   maps));
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  report["peak_rss_mb"] = static_cast<double>(usage.ru_maxrss) / 1024;
  if (!options.json.empty()) dm::write_file(options.json, report.dump(2) + "\n");
  fmt::print("seconds {}, {:.0f} MB at most\n", report["seconds"].dump(),
             report["peak_rss_mb"].get<double>());
  return 0;
}

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
  app.add_option("--steps", options.steps, "Steps of each explainer")->capture_default_str();
  app.add_option("--batch-size", options.batch_size, "Sentences a step")->capture_default_str();
  app.add_option("--rate", options.rate, "Step size of the explainers")->capture_default_str();
  app.add_option("--first-share", options.first_share,
                 "Share of epsilon that input gating may use at the first depth in training")
      ->capture_default_str();
  app.add_option("--input-epsilon", options.input_epsilon, "Divergence allowed, in nats: inputs")
      ->capture_default_str();
  app.add_option("--hidden-epsilon", options.hidden_epsilon, "Divergence allowed: hidden states")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads; 0: one a core")->capture_default_str();
  app.add_flag("--words", options.words, "One gate for the sub-words of a word");
  app.add_flag("--mask-special", options.mask_special,
               "Let [CLS] and [SEP] be masked, too; they are kept otherwise");
  app.add_option("--multiplier", options.multiplier, "Multipliers at the start")
      ->capture_default_str();
  app.add_option("--multiplier-rate", options.multiplier_rate, "Their step size")
      ->capture_default_str();
  app.add_option("--validations", options.validations, "Times that dev.txt is gone through")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--trade-off", options.trade_off,
               "Train at epsilon 0.01, 0.02, 0.05, 0.1 and 0.2, too: six times the time");
  app.add_flag("--stability", options.stability,
               "Train with another seed, too, and compare: twice the time");
  app.add_flag("--dev", options.dev, "Report on dev.txt, to make choices, in place of test.txt");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const c10::Error& error) {
    fmt::print(stderr, "sst: {}\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print(stderr, "sst: {}\n", error.what());
  }
  return 1;
}
