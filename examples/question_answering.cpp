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
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/data/sentences.hpp"
#include "diffmask/zoo/data/squad.hpp"
#include "diffmask/zoo/tasks/span.hpp"
#include "encoder_program.hpp"

namespace dm = diffmask;
using dm::Masking, nlohmann::json;

namespace {

constexpr int64_t kLongestAnswer = 30;  // tokens, as BERT's own script has it
constexpr int64_t kShown = 6;           // questions on the page

struct Options : EncoderOptions {
  int64_t epochs = 3, steps = 300, batch_size = 8, longest = 256, selection = 256, questions = 0;
  double epsilon = 1;  // the paper's
};

// The questions of a file, without those whose answer is cut off if they are to train on.
dm::SpanData read_questions(const Options& options, const dm::WordPiece& tokenizer,
                            const std::string& file, dm::CutAnswers cut, json& report) {
  auto squad = std::make_shared<dm::Squad>(
      options.made() ? dm::made_squad(cut == dm::CutAnswers::drop ? 40 : 8, dm::make_generator(0))
                     : dm::read_squad(options.data + "/" + file));
  const bool is_test = cut == dm::CutAnswers::keep;
  std::vector<dm::SquadQuestion> some;
  for (const int64_t i :
       dm::evenly(static_cast<int64_t>(squad->questions.size()), is_test ? options.questions : 0)) {
    some.push_back(squad->questions[static_cast<size_t>(i)]);
  }
  squad->questions = std::move(some);
  auto read = dm::span_examples(*squad, tokenizer, cut);
  fmt::print("{}: answers cut off after {} tokens: {}, {}\n", file, tokenizer.options().longest,
             read.cut_answers, is_test ? "kept" : "left out");
  report["cut_answers"][is_test ? "test" : "train"] = read.cut_answers;
  return {squad, std::move(read.examples), {.padding = tokenizer.padding()}};
}

void fine_tune(EncoderProgram& program, dm::Bert& net, const dm::SpanData& training,
               const dm::SpanData& selection, const Options& options) {
  const dm::Bfloat16Products fast(options.bfloat16);
  const auto trained = dm::trained_or_loaded(
      options.classifier, net, [&](const dm::Inputs& x) { return net.forward(x); }, dm::span_loss,
      training.data, selection.data,
      dm::fine_tuning(
          {.epochs = options.epochs, .batch_size = 16, .rate = 2e-4, .seed = options.seed}),
      watched("fine-tuning", program.guard));
  check_interrupt();
  program.report["seconds"]["fine_tune"] = trained.seconds;  // 0 where it was loaded
  if (trained.epoch == 0) return;
  fmt::print("span model: epoch {} of {}, loss {:.4f}, {:.1f} s\n", trained.epoch, options.epochs,
             trained.loss, trained.seconds);
}

dm::TrainerOptions training_of(const Options& options, Masking masking) {
  auto trainer =
      dm::encoder_training(masking, options.epsilon, /*unit=*/0.1 / options.epsilon, /*rate=*/8e-3);
  trainer.divergence = dm::divergence::span;
  // Of input gating a step trains two depths, of hidden gating all.
  trainer.steps = options.steps * (masking == Masking::input ? 3 : 1);
  trainer.recipe.validate_every = trainer.steps;
  trainer.batches.batch_size = options.batch_size;
  trainer.seed = options.seed;
  if (options.smoke) trainer.recipe.warm_up = 2;
  return trainer;
}

// Some questions, with what the model finds.
std::vector<dm::Heatmap> pictures(const std::vector<dm::Gating>& gatings,
                                  const dm::FrozenModel& model, const dm::WordPiece& tokenizer,
                                  const dm::SpanData& test) {
  const dm::Batch batch = test.data.batch(dm::evenly(test.data.size(), kShown));
  const dm::Attribution attribution = dm::attribute(gatings, batch);
  const auto found =
      dm::found_answers(test, batch, model.record(batch.inputs).output(), kLongestAnswer);
  std::vector<dm::Heatmap> maps;
  for (int64_t row = 0; row < batch.size(); ++row) {
    const dm::SquadQuestion& question = test.question(batch, row);
    maps.push_back(
        dm::heatmap(attribution, row,
                    dm::token_names(tokenizer, test.example(batch, row).encoding, batch.mask[row]),
                    fmt::format("{} Found: {}; expected: {}", question.text,
                                found[static_cast<size_t>(row)], question.answers[0].text)));
  }
  return maps;
}

dm::WordPiece tokenizer_of(const Options& options) {
  if (options.made_model()) return dm::made_tokenizer();
  auto texts = dm::read_wordpiece_options(options.model);
  texts.longest = std::min(texts.longest, options.longest);
  return dm::WordPiece::load(options.model, texts);
}

int run(const Options& options) {
  use_threads(options.threads);
  const auto tokenizer = tokenizer_of(options);
  EncoderProgram program{options};
  json& report = program.report;
  report = {{"longest", tokenizer.options().longest}, {"epsilon", options.epsilon}};
  const auto read = [&](const std::string& file, dm::CutAnswers cut) {
    return read_questions(options, tokenizer, file, cut, report);
  };
  const auto [training, selection] =
      dm::split_by_context(read("squadshifts_new_wiki_v1.0.json", dm::CutAnswers::drop),
                           dm::derive_seed(options.seed, 101));
  const dm::SpanData test = read("xquad.en.json", dm::CutAnswers::keep);
  fmt::print("{} questions to train on, {} to select on, {} to report on\n", training.data.size(),
             selection.data.size(), test.data.size());

  const auto net = program.net(tokenizer, {.kind = dm::BertHead::Kind::span});
  fine_tune(program, *net, training, selection, options);
  const auto model = dm::staged(net);
  const dm::Subset selected(dm::borrowed(selection.data),
                            dm::evenly(selection.data.size(), options.selection));
  std::vector<dm::Gating> gatings;
  for (const auto& [name, masking] : options.gatings()) {
    auto fitted = program.fit(name, model, dm::encoder_explainer(masking), training.data, selected,
                              training_of(options, masking), options.explainer_file(name));
    report["seconds"]["fit_" + name] = fitted.summary.seconds;
    gatings.push_back({name, std::move(fitted.method), options.epsilon});
  }

  const auto found = dm::score_masks(*model, test.data, gatings,
                                     {.scorer = dm::span_scorer(test, kLongestAnswer),
                                      .divergence = dm::divergence::span,
                                      .seed = options.seed,
                                      .batch_size = 32,
                                      .progress = program.guard.callback()});
  fmt::print("\n{}", found.full_report("test"));
  report.update(json::parse(found.json()));
  if (!options.html.empty()) {
    dm::write_file(options.html,
                   dm::html_report("What the encoder needs to find an answer",
                                   "Some questions with their passages. A cell shows the "
                                   "probability that a token's state is needed at a depth.",
                                   pictures(gatings, *model, tokenizer, test)));
  }
  return program.finish();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which tokens does a Transformer need to find an answer, and where does it know?");
  Options options;
  options.add_to(app, "Folder of the two files of questions");
  add_option(app, "--longest", options.longest,
             "Tokens of a question and its passage; what is longer is cut");
  add_option(app, "--epochs", options.epochs, "Epochs of fine-tuning");
  add_option(app, "--steps", options.steps,
             "Steps of hidden gating; three times as many for input gating");
  add_option(app, "--batch-size", options.batch_size, "Questions per step");
  add_option(app, "--selection", options.selection,
             "How many of the held-out questions an explainer is selected on; 0: all")
      ->check(CLI::NonNegativeNumber);
  add_option(app, "--questions", options.questions, "Number of questions to report on; 0: all")
      ->check(CLI::NonNegativeNumber);
  add_option(app, "--epsilon", options.epsilon, "Divergence allowed, in nats");
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) options.epochs = 1, options.steps = 5;
  return reported("question_answering", [&] { return run(options); });
}
