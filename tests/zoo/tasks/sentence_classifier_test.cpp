#include "diffmask/zoo/tasks/sentence_classifier.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "diffmask/core/random.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

class SentenceClassifierTest : public testing::Test {
 protected:
  std::shared_ptr<Bert> make_net() const {
    return small_bert(tokenizer_, {.classes = 5}, make_generator(1));
  }
  at::Tensor outputs(const std::shared_ptr<Bert>& net) const {
    return predict(
        *net, [net](const Inputs& x) { return net->forward(x); }, development_.data);
  }

  WordPiece tokenizer_ = made_tokenizer();
  SentenceParts parts_ = review_sentences(made_reviews(200, make_generator(0)), made_lexicon());
  Sentences development_ = encode_sentences(parts_.development, tokenizer_);
};

TEST_F(SentenceClassifierTest, IsTrainedOnceAndThenLoaded) {
  const TemporaryFolder folder;
  const SentenceClassifierOptions options{.fine_tuning = {.epochs = 25, .rate = 5e-3, .seed = 4},
                                          .lost_words = 0.3,
                                          .file = folder / "net.safetensors"};
  const auto trained = make_net(), loaded = make_net();
  const auto summary = fine_tune(*trained, tokenizer_, parts_.training, development_, options);
  EXPECT_GE(summary.epoch, 1);
  const at::Tensor y = outputs(trained);
  EXPECT_NEAR(summary.loss, 1 - macro_f1(y.argmax(1), development_.data.labels(), 5), 1e-12);
  EXPECT_LT(summary.loss, 1 - 0.25) << "chance is at most 0.2";
  EXPECT_TRUE(std::filesystem::exists(options.file));
  EXPECT_EQ(fine_tune(*loaded, tokenizer_, parts_.training, development_, options).epoch, 0);
  EXPECT_TRUE(outputs(loaded).equal(y));
  EXPECT_FALSE(loaded->is_training());
}

TEST_F(SentenceClassifierTest, LosesWordsAtTheRateAsked) {
  const auto after = [&](double lost_words) {
    const auto net = make_net();
    fine_tune(*net, tokenizer_, parts_.training, development_,
              {.fine_tuning = {.epochs = 1, .rate = 1e-3}, .lost_words = lost_words});
    return outputs(net);
  };
  EXPECT_TRUE(after(1).equal(after(1))) << "the seed decides all that is drawn";
  EXPECT_FALSE(after(1).equal(after(0)));
}

TEST_F(SentenceClassifierTest, WritesNothingWhenStopped) {
  const TemporaryFolder folder;
  const std::string file = folder / "net.safetensors";
  const auto stop = [](const Progress&) { return Action::stop; };
  const auto summary = fine_tune(*make_net(), tokenizer_, parts_.training, development_,
                                 {.file = file, .callbacks = {stop}});
  EXPECT_TRUE(summary.interrupted);
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST_F(SentenceClassifierTest, PicturesNameTokensAndLabels) {
  const Sentences some = encode_sentences(
      {{3, {"a", "good", "film"}, {2, 4, 2}}, {1, {"the", "dull"}, {2, 0}}}, tokenizer_);
  const Batch batch = some.data.batch({1, 0});
  const at::Tensor scores = at::rand({2, batch.mask.size(1), 2}, make_generator(0));
  const Attribution attribution{{"low", "high"}, scores, scores.gt(0.5), batch.mask};
  const auto maps = sentence_heatmaps(attribution, some, tokenizer_, batch,
                                      at::tensor(std::vector<int64_t>{0, 4}, at::kLong));
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[0].title, "Sentence 2: predicted very_negative, labelled negative");
  EXPECT_EQ(maps[1].title, "Sentence 1: predicted very_positive, labelled positive");
  EXPECT_EQ(maps[0].positions, (std::vector<std::string>{"the", "dull"}));
  EXPECT_EQ(maps[1].positions, (std::vector<std::string>{"a", "good", "film"}));
  EXPECT_TRUE(maps[1].scores[0].equal(scores[1][1].to(maps[1].scores.scalar_type())))
      << "[CLS] is not explained";
}

TEST_F(SentenceClassifierTest, RefusesBadOptions) {
  const auto with = [&](const SentenceClassifierOptions& options) {
    return [this, options] {
      fine_tune(*make_net(), tokenizer_, parts_.training, development_, options);
    };
  };
  expect_refused({{"rate", with({.lost_words = 1.5}), "lost_words has to be in [0, 1]"},
                  {"phrases", with({.phrases = -1}), "phrases has to be >= 0, but got -1"}});
}

}  // namespace
}  // namespace diffmask
