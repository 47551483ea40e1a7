#include "diffmask/zoo/tasks/made.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"

namespace diffmask {
namespace {

TEST(MadeReviewsTest, AreRatedByTheirWords) {
  const auto reviews = made_reviews(50, make_generator(0));
  ASSERT_EQ(reviews.size(), 50u);
  const WordPiece tokenizer = made_tokenizer();
  for (const Review& review : reviews) {
    EXPECT_GE(review.words.size(), 4u);
    EXPECT_LE(review.words.size(), 12u);
    double sum = 0;
    for (const Word& word : review.words) {
      const auto found = made_lexicon().find(word.form);
      if (found != made_lexicon().end()) sum += found->second;
      EXPECT_NE(tokenizer.id(word.form), tokenizer.unknown()) << word.form;
    }
    EXPECT_GE(review.rating, sum);
    EXPECT_LE(review.rating, sum + 0.1);
  }
  EXPECT_EQ(made_reviews(50, make_generator(0))[7].rating, reviews[7].rating);
  expect_refused({{"size", [] { made_reviews(0, make_generator(0)); }, "size has to be >= 1"}});
}

TEST(MadeSquadTest, SaysWhereTheAnswerStands) {
  const Squad squad = made_squad(10, make_generator(0));
  EXPECT_EQ(squad.contexts.size(), 10u);
  EXPECT_EQ(squad.questions.size(), 30u);
  const auto read = span_examples(squad, made_tokenizer(), CutAnswers::keep);
  EXPECT_EQ(read.cut_answers, 0);
  for (const SpanExample& example : read.examples) {
    const SquadQuestion& question = squad.questions[example.question];
    EXPECT_EQ(span_text(squad, example, example.first, example.last), question.answers[0].text);
    const std::string name = question.text.substr(9, question.text.size() - 10);  // Where is ...?
    const std::string said = name + " lives in " + question.answers[0].text + ".";
    EXPECT_NE(squad.contexts[question.context].find(said), std::string::npos) << said;
  }
}

TEST(MadeImagesTest, AreBrightWhereTheLabelSays) {
  const LabelledImages made = made_images(30, make_generator(0));
  EXPECT_EQ(made.images.sizes(), (std::vector<int64_t>{30, 1, 28, 28}));
  const at::Tensor cells = at::avg_pool2d(made.images, 7).flatten(1);  // (30, 16)
  EXPECT_TRUE(cells.argmax(1).equal(made.labels));
  EXPECT_TRUE(made.labels.lt(10).all().item<bool>());
  EXPECT_EQ(made.images.eq(1).sum().item<int64_t>(), 30 * 49);
}

TEST(SmallBertTest, ReadsMadeTexts) {
  const WordPiece tokenizer = made_tokenizer();
  const auto net = small_bert(tokenizer, {.classes = 3}, make_generator(0));
  EXPECT_FALSE(net->is_training());
  const EncodedDataset data({tokenizer.encode("Anna lives in Rome.")});
  EXPECT_EQ(net->forward(data.batch({0}).inputs).sizes(), (std::vector<int64_t>{1, 3}));
}

}  // namespace
}  // namespace diffmask
