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
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/mask_experiment.hpp"
#include "diffmask/report/heatmap.hpp"
#include "diffmask/zoo/data/squad.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "diffmask/zoo/tasks/span.hpp"
#include "encoder_program.hpp"

namespace dm = diffmask;
using dm::Masking, nlohmann::json;

namespace {

constexpr int64_t kLongestAnswer = 30;  // tokens, as BERT's own script has it
constexpr int64_t kShown = 6;           // questions on the page

struct Options : EncoderOptions {
  int64_t longest = 256, selection = 256, questions = 0;
  double epsilon = 1;  // the paper's
};

dm::WordPiece tokenizer_of(const Options& options) {
  if (options.model.empty()) return dm::made_tokenizer();
  auto texts = dm::read_wordpiece_options(options.model);
  texts.longest = std::min(texts.longest, options.longest);
  return dm::WordPiece::load(options.model, texts);
}

// The questions of a file, without those whose answer is cut off if they are to train on.
dm::SpanData read_questions(const Options& options, const dm::WordPiece& tokenizer,
                            const std::string& file, dm::CutAnswers cut, json& report) {
  const bool is_test = cut == dm::CutAnswers::keep;
  auto squad = options.data.empty() ? dm::made_squad(is_test ? 8 : 40, dm::make_generator(0))
                                    : dm::read_squad(options.data + "/" + file);
  auto data =
      dm::encode_questions(std::move(squad), tokenizer, cut, is_test ? options.questions : 0);
  fmt::print("{}: answers cut off after {} tokens: {}, {}\n", file, tokenizer.options().longest,
             data.cut_answers, is_test ? "kept" : "left out");
  report["cut_answers"][is_test ? "test" : "train"] = data.cut_answers;
  return data;
}

std::shared_ptr<dm::Bert> fine_tuned(EncoderProgram& program, const dm::WordPiece& tokenizer,
                                     const dm::SpanData& training, const dm::SpanData& selection) {
  const EncoderOptions& options = program.options;
  const dm::BertHead head{.kind = dm::BertHead::Kind::span};
  const auto generator = dm::make_generator(dm::derive_seed(options.seed, 100));
  const auto net = options.model.empty() ? dm::small_bert(tokenizer, head, generator)
                                         : dm::load_bert(options.model, head, generator);
  const auto trained = program.fast([&] {
    return dm::trained_or_loaded(
        options.classifier, *net, [&](const dm::Inputs& x) { return net->forward(x); },
        dm::span_loss, training.data, selection.data,
        dm::fine_tuning(
            {.epochs = options.epochs, .batch_size = 16, .rate = 2e-4, .seed = options.seed}),
        watched("fine-tuning", program.guard));
  });
  program.tell(trained, fmt::format("loss {:.4f}", trained.loss));
  return net;
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

  const auto model = dm::staged(fine_tuned(program, tokenizer, training, selection));
  const dm::Subset selected(dm::borrowed(selection.data),
                            dm::evenly(selection.data.size(), options.selection));
  std::vector<dm::Gating> gatings;
  for (const auto& [name, masking] : options.gatings()) {
    const auto trainer =
        program.as_told(dm::span_training(masking, options.epsilon, options.steps), name);
    gatings.push_back(program.fit(name, options.epsilon, model, dm::encoder_explainer(masking),
                                  training.data, selected, trainer, options.explainer_file(name)));
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
    const dm::Batch batch = test.data.batch(dm::evenly(test.data.size(), kShown));
    dm::write_file(
        options.html,
        dm::html_report("What the encoder needs to find an answer",
                        "Some questions with their passages. A cell shows the "
                        "probability that a token's state is needed at a depth.",
                        dm::span_heatmaps(dm::attribute(gatings, batch), test, tokenizer, batch,
                                          model->record(batch.inputs).output(), kLongestAnswer)));
  }
  return program.finish();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which tokens does a Transformer need to find an answer, and where does it know?");
  Options options;
  options.steps = 300, options.batch_size = 8;
  options.add_to(app, "Folder of the two files of questions");
  add_number(app, "--longest", options.longest,
             "Tokens of a question and its passage; what is longer is cut");
  add_number(app, "--selection", options.selection,
             "How many of the held-out questions an explainer is selected on; 0: all", 0);
  add_number(app, "--questions", options.questions, "Number of questions to report on; 0: all", 0);
  add_option(app, "--epsilon", options.epsilon, "Divergence allowed, in nats");
  CLI11_PARSE(app, argc, argv);
  return reported("question_answering", [&] {
    options.settle();
    return run(options);
  });
}
