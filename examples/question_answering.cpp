// Which tokens of a question and a passage does a Transformer need to find the answer, and at which
// layer does it know? The experiment of De Cao et al. 2020, section 4.3.
//
//   ./examples/run question_answering --data FOLDER
//
// Fine-tunes a small BERT on the folder's squadshifts_new_wiki_v1.0.json (Miller et al. 2020) to
// mark answers, trains DiffMask by input and by hidden states, and prints for its xquad.en.json
// (Artetxe et al. 2020): how well answers are found as they are, with what DiffMask masks taken
// away, and with as much taken away at random; and the share of question, passage and answer that
// is kept at each depth. Expect masks that cost little, and random ones that cost much.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/data/encoded.hpp"
#include "diffmask/zoo/data/squad.hpp"
#include "diffmask/zoo/nets/bert.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "diffmask/zoo/tasks/span.hpp"
#include "encoders.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

constexpr int64_t kLongestAnswer = 30;  // tokens, as BERT's own script has it
constexpr int64_t kShown = 6;           // questions on the page
struct Options {
  std::string data, model, classifier, explainers, gating = "both", html, json;
  uint64_t seed = 0;
  int64_t epochs = 3, steps = 300, batch_size = 8, longest = 256, threads = 0;
  int64_t selection = 256, questions = 0;
  double epsilon = 1;  // the paper's
  bool bfloat16 = false;
};

// Questions of a file, as the encoder reads them.
struct Part {
  const dm::Squad& squad;
  std::vector<dm::SpanExample> examples;
  dm::EncodedDataset data;

  Part(const dm::Squad& of, std::vector<dm::SpanExample> some, int64_t padding)
      : squad(of),
        examples(std::move(some)),
        data(dm::span_dataset(examples, {.padding = padding})) {}

  const dm::SpanExample& example(const dm::Batch& batch, int64_t row) const {
    return examples.at(static_cast<size_t>(batch.examples[row].item<int64_t>()));
  }
};

// Splits by passage, of which a tenth is held out: questions about one are too much alike.
std::pair<Part, Part> split(const dm::Squad& squad, const std::vector<dm::SpanExample>& examples,
                            int64_t padding, uint64_t seed) {
  const auto order = dm::shuffled(static_cast<int64_t>(squad.contexts.size()),
                                  dm::make_generator(dm::derive_seed(seed, 101)));
  std::vector<dm::SpanExample> training, held_out;
  for (const dm::SpanExample& example : examples) {
    const size_t context = squad.questions[example.question].context;
    (order[context] % 10 == 0 ? held_out : training).push_back(example);
  }
  return {Part(squad, std::move(training), padding), Part(squad, std::move(held_out), padding)};
}

// `some` of them, evenly spaced; 0: all.
template <typename T>
std::vector<T> evenly(const std::vector<T>& all, int64_t some) {
  const auto wanted = static_cast<size_t>(some);
  if (wanted == 0 || wanted >= all.size()) return all;
  std::vector<T> chosen;
  for (size_t i = 0; i < wanted; ++i) chosen.push_back(all[i * all.size() / wanted]);
  return chosen;
}

// Cross entropy of the answer's first and last token. Shape: output (B, T, 2), spans (B, 2).
at::Tensor span_loss(const at::Tensor& output, const at::Tensor& spans) {
  return (at::cross_entropy_loss(output.select(2, 0), spans.select(1, 0)) +
          at::cross_entropy_loss(output.select(2, 1), spans.select(1, 1))) /
         2;
}

dm::TrainerOptions recipe(const Options& options, dm::Masking masking) {
  auto trainer = encoder_recipe(masking, options.epsilon, /*unit=*/0.1 / options.epsilon, 8e-3);
  trainer.divergence = dm::divergence::span;
  // Of input gating a step trains two depths, of hidden gating all.
  trainer.steps = options.steps * (masking == dm::Masking::input ? 3 : 1);
  trainer.validate_every = trainer.steps;
  trainer.batches.batch_size = options.batch_size;
  trainer.seed = options.seed;
  return trainer;
}

using Explainers = std::vector<std::pair<std::string, dm::DiffMask>>;  // and their names

// 0, 1 and 2 for tokens of the question, of the passage and of the answer in it; -1 for others.
// Shape: (B, T).
at::Tensor kinds_of(const Part& part, const dm::Batch& batch) {
  at::Tensor kinds = at::full(batch.mask.sizes(), -1, at::kLong);
  for (int64_t row = 0; row < batch.size(); ++row) {
    const dm::SpanExample& example = part.example(batch, row);
    const at::Tensor types = at::tensor(example.encoding.types, at::kLong);
    kinds[row].narrow(0, 0, types.size(0)).copy_(types);
    if (example.has_answer()) {
      kinds[row].narrow(0, example.first, example.last - example.first + 1).fill_(2);
    }
  }
  return kinds.masked_fill(batch.mask.logical_not(), -1);
}

// What the model finds. Shape: output (B, T, 2).
std::vector<std::string> answers(const Part& part, const dm::Batch& batch,
                                 const at::Tensor& output) {
  const at::Tensor spans = dm::best_spans(output, kinds_of(part, batch).ge(1), kLongestAnswer);
  std::vector<std::string> found;
  for (int64_t row = 0; row < batch.size(); ++row) {
    found.push_back(dm::span_text(part.squad, part.example(batch, row),
                                  spans[row][0].item<int64_t>(), spans[row][1].item<int64_t>()));
  }
  return found;
}

// What is measured of a question; the last three are the shares of its tokens that are kept, a
// passage's without the answer's. NaN where it has no such tokens.
const std::vector<std::string> kFigures = {
    "exact_match",    "f1",       "masked_share", "divergence",
    "within_epsilon", "question", "passage",      "answer"};

// Of the output under the masks z (B, T). Shape: (B, figures).
at::Tensor measure(const Part& part, const dm::Batch& batch, const at::Tensor& original,
                   const at::Tensor& output, const at::Tensor& z, double epsilon) {
  std::vector<double> exact, f1;
  const auto found = answers(part, batch, output);
  for (int64_t row = 0; row < batch.size(); ++row) {
    std::vector<std::string> accepted;
    for (const auto& answer : part.squad.questions[part.example(batch, row).question].answers) {
      accepted.push_back(answer.text);
    }
    exact.push_back(dm::exact_match(found[static_cast<size_t>(row)], accepted));
    f1.push_back(dm::token_f1(found[static_cast<size_t>(row)], accepted));
  }
  const auto kept = [&](const at::Tensor& tokens) {
    return (z * tokens).sum(1, /*keepdim=*/false, at::kDouble) / tokens.sum(1);
  };
  const at::Tensor kinds = kinds_of(part, batch);
  const at::Tensor divergence = dm::divergence::span(original, output).to(at::kDouble);
  return at::stack({at::tensor(exact), at::tensor(f1), 1 - kept(batch.mask), divergence,
                    divergence.le(epsilon).to(at::kDouble), kept(kinds.eq(0)), kept(kinds.eq(1)),
                    kept(kinds.eq(2))},
                   1);
}

// A way of masking at one depth, and the figures of all questions.
struct Score {
  std::string name, site;  // "original" has no site
  std::vector<at::Tensor> figures;
};

json to_json(const at::Tensor& means) {
  json result;
  for (size_t i = 0; i < kFigures.size(); ++i) {
    (i < 5 ? result : result["kept"])[kFigures[i]] = means[static_cast<int64_t>(i)].item<double>();
  }
  return result;
}

void print(const std::string& name, const at::Tensor& means) {
  const auto* m = means.data_ptr<double>();
  fmt::print(
      "  {:<24} {:>5.1f} {:>6.1f}  {:>6.1f}%  {:>8.4f}  {:>6.1f}%  {:>8.1f}%{:>8.1f}%{:>8.1f}%\n",
      name, 100 * m[0], 100 * m[1], 100 * m[2], m[3], 100 * m[4], 100 * m[5], 100 * m[6],
      100 * m[7]);
}

// As they are, then masked at every depth of every gating: by the explainer, and at random.
std::vector<Score> score(const dm::StagedModel& model, const Explainers& explainers,
                         const Part& part, const Options& options) {
  at::NoGradGuard no_grad;
  const auto generator = dm::make_generator(dm::derive_seed(options.seed, 200));
  std::vector<Score> scores;
  for (const auto& examples : dm::length_batches(part.data, 32)) {
    if (dm::InterruptGuard::interrupted()) break;
    const dm::Batch batch = part.data.batch(examples);
    const dm::Recording recording = model.record(batch.inputs);
    size_t next = 0;
    const auto add = [&](const std::string& name, const std::string& site, const at::Tensor& output,
                         const at::Tensor& z) {
      if (next == scores.size()) scores.push_back({name, site, {}});
      scores[next++].figures.push_back(
          measure(part, batch, recording.output(), output, z, options.epsilon));
    };
    add("original", "", recording.output(), at::ones(batch.mask.sizes()));
    for (const auto& [name, method] : explainers) {
      const dm::Explainer& explainer = method.explainer();
      const auto depths = dm::iota(explainer.depths());
      const auto gates = explainer.gates(recording, batch, depths, dm::Draw::hard);
      for (const int64_t depth : depths) {
        const auto add_masked = [&](const std::string& key, const at::Tensor& z) {
          add(key, explainer.sites()[static_cast<size_t>(depth)],
              explainer.masked_output(model, recording, depth, z), z);
        };
        const at::Tensor& z = gates[static_cast<size_t>(depth)].z;
        add_masked(name, z);
        add_masked("random_" + name, dm::shuffled_mask(z, batch.mask, generator));
      }
    }
  }
  return scores;
}

// Prints and writes them. Hidden states are masked at one depth at a time, so that the summary is
// the mean over depths; an input's mask is what the last depth leaves.
void report_scores(const std::vector<Score>& scores, json& report) {
  fmt::print("\n  {:<24} {:>5} {:>6}  {:>7}  {:>8}  {:>7}  {:>9}{:>9}{:>9}\n", "test", "EM", "F1",
             "masked", "D", "D<=eps", "question", "passage", "answer");
  std::map<std::string, std::vector<at::Tensor>> depths;
  for (const Score& score : scores) {
    const at::Tensor means = at::cat(score.figures).nanmean(0);
    json figures = to_json(means);
    if (score.site.empty()) {
      print(score.name, means);
      report[score.name] = figures;
      continue;
    }
    const bool is_random = score.name.starts_with("random");
    print(is_random ? "  at random" : fmt::format("{}, {}", score.name, score.site), means);
    figures["depth"] = score.site;
    report[score.name]["depths"].push_back(figures);
    depths[score.name].push_back(means);
  }
  fmt::print("\n");
  for (const auto& [name, means] : depths) {
    const bool is_input = name.ends_with("input");
    const at::Tensor summary = is_input ? means.back() : at::stack(means).mean(0);
    print(name + (is_input ? ", last depth" : ", mean"), summary);
    report[name]["summary"] = to_json(summary);
  }
}

// Some questions.
std::vector<dm::Heatmap> pictures(const Explainers& explainers, const dm::StagedModel& model,
                                  const dm::WordPiece& tokenizer, const Part& part) {
  const dm::Batch batch = part.data.batch(evenly(dm::iota(part.data.size()), kShown));
  std::vector<std::pair<std::string, dm::Attribution>> named;
  for (const auto& [name, method] : explainers) named.emplace_back(name, method.attribute(batch));
  const dm::Attribution attribution = dm::side_by_side(named);
  const auto found = answers(part, batch, model.record(batch.inputs).output());
  std::vector<dm::Heatmap> maps;
  for (int64_t row = 0; row < batch.size(); ++row) {
    const dm::SpanExample& example = part.example(batch, row);
    const dm::SquadQuestion& question = part.squad.questions[example.question];
    maps.push_back(
        dm::heatmap(attribution, row, token_names(tokenizer, example.encoding, batch.mask[row]),
                    fmt::format("{} Found: {}; expected: {}", question.text,
                                found[static_cast<size_t>(row)], question.answers[0].text)));
  }
  return maps;
}

int run(const Options& options) {
  use_threads(options.threads);
  const dm::InterruptGuard guard;
  const auto callbacks = [&](const std::string& title) {
    return std::vector<dm::Callback>{dm::progress_bar(title, stderr, 50), guard.callback()};
  };
  auto texts = dm::read_wordpiece_options(options.model);
  texts.longest = std::min(texts.longest, options.longest);
  const auto tokenizer = dm::WordPiece::load(options.model, texts);
  const dm::Squad wiki = dm::read_squad(options.data + "/squadshifts_new_wiki_v1.0.json");
  dm::Squad xquad = dm::read_squad(options.data + "/xquad.en.json");
  xquad.questions = evenly(xquad.questions, options.questions);
  const auto kept = dm::span_examples(wiki, tokenizer, dm::CutAnswers::drop),
             all = dm::span_examples(xquad, tokenizer, dm::CutAnswers::keep);
  const auto [training, selection] = split(wiki, kept.examples, tokenizer.padding(), options.seed);
  const Part test(xquad, all.examples, tokenizer.padding());
  fmt::print("{} questions to train on, {} to select on, {} to report on\n", training.data.size(),
             selection.data.size(), test.data.size());
  fmt::print("Answers cut off after {} tokens: {} in training, left out; {} in the test, kept\n",
             texts.longest, kept.cut_answers, all.cut_answers);
  std::fflush(stdout);
  json report = {{"longest", texts.longest},
                 {"epsilon", options.epsilon},
                 {"cut_answers", {{"train", kept.cut_answers}, {"test", all.cut_answers}}}};

  const auto net = dm::load_bert(options.model, {.kind = dm::BertHead::Kind::span},
                                 dm::make_generator(dm::derive_seed(options.seed, 100)));
  if (!options.classifier.empty() && std::filesystem::exists(options.classifier)) {
    dm::load_weights(*net, options.classifier);
    net->eval();
  } else {
    const Bfloat16Products fast(options.bfloat16);
    const auto forward = [net](const dm::Inputs& x) { return net->forward(x); };
    const auto supervised = fine_tuning(options.epochs, 16, 2e-4, options.seed);
    const auto trained = dm::train_supervised(*net, forward, span_loss, training.data,
                                              selection.data, supervised, callbacks("fine-tuning"));
    fmt::print("span model: epoch {} of {}, loss {:.4f}, {:.1f} s\n", trained.epoch, options.epochs,
               trained.loss, trained.seconds);
    report["seconds"]["fine_tune"] = trained.seconds;
    if (!options.classifier.empty()) dm::save_weights(*net, options.classifier);
  }
  if (guard.interrupted()) return 130;

  const auto model = dm::staged(net);
  const dm::Subset selected(dm::borrowed(selection.data),
                            evenly(dm::iota(selection.data.size()), options.selection));
  Explainers explainers;
  for (const auto& [name, masking] :
       {std::pair{"input", dm::Masking::input}, std::pair{"hidden", dm::Masking::hidden}}) {
    if (options.gating != "both" && options.gating != name) continue;
    const std::string file = options.explainers.empty()
                                 ? ""
                                 : fmt::format("{}-{}.safetensors", options.explainers, name);
    const Bfloat16Products fast(options.bfloat16);
    auto explained = explain(model, training.data, selected, masking, recipe(options, masking),
                             file, callbacks(fmt::format("{} gating", name)));
    if (guard.interrupted()) return 130;
    report["seconds"][fmt::format("fit_{}", name)] = explained.seconds;
    explainers.emplace_back(name, std::move(explained.method));
  }

  const auto scores = score(*model, explainers, test, options);
  if (guard.interrupted()) return 130;
  report_scores(scores, report);

  if (!options.html.empty()) {
    const auto maps = pictures(explainers, *model, tokenizer, test);
    dm::write_file(options.html,
                   dm::html_report("What the encoder needs to find an answer",
                                   "Some questions with their passages. A cell shows the "
                                   "probability that a token's state is needed at a depth.",
                                   maps));
  }
  report["peak_rss_mb"] = peak_rss_mb();
  if (!options.json.empty()) dm::write_file(options.json, report.dump(2) + "\n");
  fmt::print("seconds {}, {:.0f} MB at most\n", report["seconds"].dump(), peak_rss_mb());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which tokens does a Transformer need to find an answer, and where does it know?");
  Options options;
  app.add_option("--data", options.data, "Folder of the two files of questions")->required();
  app.add_option("--model", options.model, "Hugging Face folder of an encoder")->required();
  app.add_option("--classifier", options.classifier,
                 "The fine-tuned weights: loaded where the file is there, else written");
  app.add_option("--explainers", options.explainers,
                 "Begin of the explainers' files: loaded where they are there, else written");
  app.add_option("--gating", options.gating, "What is masked")
      ->check(CLI::IsMember({"input", "hidden", "both"}))
      ->capture_default_str();
  app.add_option("--html", options.html, "Write pictures of some questions here");
  app.add_option("--json", options.json, "Write the figures here");
  app.add_option("--seed", options.seed, "Seed of all that is drawn")->capture_default_str();
  app.add_option("--longest", options.longest, "Tokens of a question and its passage; more are cut")
      ->capture_default_str();
  app.add_option("--epochs", options.epochs, "Epochs of fine-tuning")->capture_default_str();
  app.add_option("--steps", options.steps,
                 "Steps of hidden gating; input gating takes three times as many")
      ->capture_default_str();
  app.add_option("--batch-size", options.batch_size, "Questions a step")->capture_default_str();
  app.add_option("--selection", options.selection,
                 "Questions that an explainer is selected on, of those held out; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--questions", options.questions, "Questions to report on; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--epsilon", options.epsilon, "Divergence allowed, in nats")
      ->capture_default_str();
  app.add_flag("--bfloat16", options.bfloat16,
               "Train with matrix products in bfloat16, where the processor has them: faster; what "
               "is reported is computed in float32 all the same");
  app.add_option("--threads", options.threads, "Threads; 0: one a core")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return reported("question_answering", [&] { return run(options); });
}
