#include "diffmask/zoo/tasks/span.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "diffmask/core/random.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(SpanTest, FindsTheLikeliestSpan) {
  // Starts and ends of one row in turn; the best of each without the rules is (2, 1), or (0, 3).
  const at::Tensor crossed = at::tensor({1.0, 0.0, 0.0, 5.0, 4.0, 1.5, 0.0, 1.0}).view({1, 4, 2});
  const at::Tensor wide = at::tensor({5.0, 0.0, 0.0, 1.0, 3.0, -1.0, 0.0, 4.0}).view({1, 4, 2});
  const at::Tensor both = at::cat({crossed, wide});
  const at::Tensor all = at::ones({2, 4}, at::kBool);
  const auto spans = [&](const at::Tensor& allowed, int64_t longest) {
    const at::Tensor found = best_spans(both, allowed, longest);
    EXPECT_EQ(found.scalar_type(), at::kLong);
    return std::vector<int64_t>(found.data_ptr<int64_t>(), found.data_ptr<int64_t>() + 4);
  };
  using Spans = std::vector<int64_t>;
  EXPECT_EQ(spans(all, 4), (Spans{0, 1, 0, 3}));  // 1 + 5 and 5 + 4
  EXPECT_EQ(spans(all, 3), (Spans{0, 1, 2, 3}));  // four tokens are too many: 3 + 4
  EXPECT_EQ(spans(all, 1), (Spans{2, 2, 0, 0}));  // 4 + 1.5 and 5 + 0
  at::Tensor some = all.clone();
  some.select(1, 1).fill_(false);
  EXPECT_EQ(spans(some, 4), (Spans{2, 2, 0, 3}));
  some.select(1, 3).fill_(false);
  EXPECT_EQ(spans(some, 4), (Spans{2, 2, 0, 0}));
}

TEST(SpanTest, TheLikeliestSpanNeedsAToken) {
  const at::Tensor output = at::zeros({2, 3, 2}), all = at::ones({2, 3}, at::kBool);
  at::Tensor none = all.clone();
  none[1].fill_(false);
  expect_refused({
      {"shape",
       [&] {
         best_spans(at::zeros({2, 3}), all, 1);
       },
       "output"},
      {"tokens",
       [&] {
         best_spans(output, at::ones({2, 4}, at::kBool), 1);
       },
       "allowed"},
      {"dtype",
       [&] {
         best_spans(output, at::ones({2, 3}), 1);
       },
       "allowed"},
      {"length", [&] { best_spans(output, all, 0); }, "longest has to be >= 1, but got 0"},
      {"no token", [&] { best_spans(output, none, 1); },
       "allowed has to be true at one token or more of every row"},
  });
}

// Golden values of the few lines of Python that define the measure (lower, string.punctuation,
// re.sub of \b(a|an|the)\b, split), with Python 3.11.
TEST(SpanTest, NormalisesAnswers) {
  const std::vector<std::pair<std::string, std::string>> table = {
      {"The  Cat's  pajamas!", "cats pajamas"},
      {"a-b A.N. theatre", "ab theatre"},
      {"\u201CThe\u201D end", "\u201C \u201D end"},
      {"a\u2013b the\u2014an", "\u2013b \u2014"},
      {"caf\u00C9 \u00C9T\u00C9", "caf\u00E9 \u00E9t\u00E9"},
      {"a\u0301 b", "\u0301 b"},
      {"x\u00A0\u3000y\u0085z\x1Cw", "x y z w"},
      {"the", ""},
      {"", ""},
      {"\u65E5\u672C a \u65E5a", "\u65E5\u672C \u65E5a"},
      {"_the_ a_b", "ab"},
      {"3 1\u20442 a\u00BD", "3 1\u20442 a\u00BD"},
      {"\u00DFA \u1E9E", "\u00DFa \u00DF"},
  };
  for (const auto& [text, expected] : table) EXPECT_EQ(normalise_answer(text), expected) << text;
}

TEST(SpanTest, MeasuresAnswers) {
  struct Case {
    std::string answer, accepted;
    double f1, exact;
  };
  const std::vector<Case> table = {
      {"the cat sat", "cat sat down", 0.8, 0},
      {"cat cat", "cat", 2.0 / 3, 0},
      {"a", "the", 1, 1},
      {"", "x", 0, 0},
      {"x", "", 0, 0},
      {"x y z", "z y x", 1, 0},
      {"New York City", "new york", 0.8, 0},
      {"b b c", "b c c d", 4.0 / 7, 0},
      {"The end.", "end", 1, 1},
      {"dog", "cat", 0, 0},
  };
  for (const Case& one : table) {
    EXPECT_DOUBLE_EQ(token_f1(one.answer, {one.accepted}), one.f1) << one.answer;
    EXPECT_EQ(exact_match(one.answer, {one.accepted}), one.exact) << one.answer;
  }
}

TEST(SpanTest, TheBestAcceptedAnswerCounts) {
  const std::vector<std::string> accepted = {"dog", "big cat", "the cat"};
  EXPECT_EQ(exact_match("Cat", accepted), 1);
  EXPECT_EQ(token_f1("Cat", accepted), 1);
  EXPECT_DOUBLE_EQ(token_f1("big fat cat", accepted), 0.8);
  EXPECT_EQ(exact_match("big fat cat", accepted), 0);
  expect_refused({
      {"exact", [] { exact_match("x", {}); }, "accepted has to be at least one answer"},
      {"F1", [] { token_f1("x", {}); }, "accepted has to be at least one answer, but got none"},
  });
}

TEST(SpanDataTest, IsSplitByPassage) {
  const auto tokenizer = made_tokenizer();
  const auto squad = std::make_shared<Squad>(made_squad(20, make_generator(0)));
  const SpanData all(squad, span_examples(*squad, tokenizer, CutAnswers::drop).examples);
  const auto [training, held_out] = split_by_context(all, 0);
  EXPECT_EQ(training.data.size(), 54);
  EXPECT_EQ(held_out.data.size(), 6) << "two of twenty passages";
  for (const SpanExample& in : training.examples) {
    for (const SpanExample& out : held_out.examples) {
      EXPECT_NE(squad->questions[in.question].context, squad->questions[out.question].context);
    }
  }
}

TEST(SpanScorerTest, ScoresAnswersAndWhatMasksKeep) {
  const auto tokenizer = made_tokenizer();
  const auto squad = std::make_shared<Squad>(made_squad(3, make_generator(0)));
  const SpanData data(squad, span_examples(*squad, tokenizer, CutAnswers::keep).examples);
  const Batch batch = data.data.batch({4, 0});
  // Sure of the answer in the first row, of the passage's first token in the second.
  at::Tensor output = at::zeros({2, batch.mask.size(1), 2});
  const SpanExample &first = data.example(batch, 0), &second = data.example(batch, 1);
  output[0][first.first][0] = output[0][first.last][1] = 9;
  const auto& types = second.encoding.types;
  const int64_t passage = std::find(types.begin(), types.end(), 1) - types.begin();
  output[1][passage].fill_(9);
  const auto found = found_answers(data, batch, output, 30);
  EXPECT_EQ(found[0], data.question(batch, 0).answers[0].text);
  EXPECT_NE(found[1], data.question(batch, 1).answers[0].text);

  const at::Tensor kinds = token_kinds(data, batch);
  EXPECT_EQ(kinds.eq(2).sum(1).min().item<int64_t>(), 1) << "a place is one token";
  EXPECT_EQ(kinds[0][0].item<int64_t>(), -1) << "[CLS]";
  EXPECT_EQ(kinds[0][1].item<int64_t>(), 0);
  const at::Tensor z = kinds.eq(0).logical_or(kinds.eq(2)).to(at::kFloat);
  const OutputScorer scorer = span_scorer(data, 30);
  EXPECT_EQ(scorer.figures[0].name, "exact_match");
  EXPECT_EQ(scorer.reduce(scorer.read({batch, output, output, z})),
            (std::vector<double>{0.5, 0.5, 1, 0, 1}));

  const at::Tensor log_p = at::log_softmax(output[0], 0);
  EXPECT_NEAR(span_loss(output.narrow(0, 0, 1), batch.labels.narrow(0, 0, 1)).item<double>(),
              -(log_p[first.first][0] + log_p[first.last][1]).item<double>() / 2, 1e-5);
}

TEST(SpanDataTest, EncodesQuestionsThatAreEvenlySpaced) {
  const Squad squad = made_squad(4, make_generator(1));
  const WordPiece tokenizer = made_tokenizer();
  const SpanData all = encode_questions(squad, tokenizer, CutAnswers::keep);
  EXPECT_EQ(all.data.size(), 12);
  EXPECT_EQ(all.cut_answers, 0);
  const SpanData some = encode_questions(squad, tokenizer, CutAnswers::keep, 3);
  ASSERT_EQ(some.data.size(), 3);
  const Batch batch = some.data.batch({1});
  EXPECT_EQ(some.question(batch, 0).id, squad.questions[4].id);
  std::vector<std::string> tokens;
  for (int64_t id = 0; id < tokenizer.size(); ++id) tokens.push_back(tokenizer.token(id));
  const SpanData cut =
      encode_questions(squad, WordPiece(tokens, {.longest = 14}), CutAnswers::drop);
  EXPECT_GT(cut.cut_answers, 0);
  EXPECT_EQ(cut.data.size(), 12 - cut.cut_answers);
}

TEST(SpanTest, PicturesNameTheQuestionAndBothAnswers) {
  const WordPiece tokenizer = made_tokenizer();
  const SpanData data =
      encode_questions(made_squad(2, make_generator(1)), tokenizer, CutAnswers::keep);
  const Batch batch = data.data.batch({3, 0});
  at::Tensor output = at::zeros({2, batch.mask.size(1), 2});
  const SpanExample& first = data.example(batch, 0);
  output[0][first.first][0] = output[0][first.last][1] = 9;
  const at::Tensor scores = at::rand({2, batch.mask.size(1), 2}, make_generator(0));
  const Attribution attribution{{"low", "high"}, scores, scores.gt(0.5), batch.mask};
  const auto maps = span_heatmaps(attribution, data, tokenizer, batch, output, 30);
  ASSERT_EQ(maps.size(), 2u);
  const SquadQuestion& question = data.question(batch, 0);
  EXPECT_EQ(maps[0].title, question.text + " Found: " + question.answers[0].text +
                               "; expected: " + question.answers[0].text);
  EXPECT_EQ(maps[0].positions.at(0), "where") << "[CLS] is not explained";
}

TEST(SpanTest, IsTrainedToSpansByItsRecipe) {
  const TrainerOptions hidden = span_training(Masking::hidden, 1),
                       input = span_training(Masking::input, 1, 10);
  EXPECT_NEAR(hidden.epsilon, 0.7, 1e-12);
  EXPECT_EQ(hidden.steps, 300);
  EXPECT_EQ(input.steps, 30);
  EXPECT_EQ(input.recipe.validate_every, 30);
  const at::Tensor output = at::zeros({2, 3, 2}), other = at::rand({2, 3, 2}, make_generator(0));
  EXPECT_TRUE(hidden.divergence(output, other).equal(divergence::span(output, other)));
  expect_refused({{"steps", [] { span_training(Masking::input, 1, 0); }, "steps has to be >= 1"},
                  {"epsilon", [] { span_training(Masking::input, 0); }, "epsilon has to be > 0"}});
}

}  // namespace
}  // namespace diffmask
