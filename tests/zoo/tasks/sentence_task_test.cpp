#include "diffmask/zoo/tasks/sentence_task.hpp"

#include <gtest/gtest.h>

#include "diffmask/attribution/diffmask.hpp"

namespace diffmask {
namespace {

SentenceTask small_task(double lost_words = 1.0) {
  return make_sentence_task({.classifier = {.fine_tuning = {.epochs = 1, .rate = 1e-3, .seed = 4},
                                            .lost_words = lost_words}});
}

TEST(SentenceTaskTest, IsFineTunedAndExplainedByItsOwnRecipe) {
  const SentenceTask task = small_task();
  const Batch batch = task.test.data.batch({0, 1});
  const at::Tensor before = task.model->record(batch.inputs).output();
  EXPECT_EQ(before.size(1), 5);
  EXPECT_EQ(task.fine_tune().epoch, 1);
  EXPECT_FALSE(task.model->record(batch.inputs).output().equal(before));
  for (const Masking masking : {Masking::hidden, Masking::input}) {
    DiffMask method(task.model, task.explainer(masking));
    TrainerOptions trainer = task.trainer(masking, 0.1, /*steps=*/2);
    EXPECT_EQ(trainer.steps, masking == Masking::input ? 8 : 2);
    EXPECT_EQ(trainer.recipe.validate_every, trainer.steps);
    trainer.recipe.warm_up = 1;
    EXPECT_EQ(method.fit(task.training.data, task.development.data, trainer).steps, trainer.steps);
    EXPECT_EQ(method.attribute(batch).sites, task.model->site_names());
  }
}

TEST(SentenceTaskTest, BaselinesBeginAsTheMaskWhereWordsWereLost) {
  const auto starts = [](double lost_words) {
    return small_task(lost_words).explainer(Masking::input).baseline.start;
  };
  EXPECT_EQ(starts(0.5), BaselineOptions::Start::given);
  EXPECT_NE(starts(0), BaselineOptions::Start::given);
}

TEST(SentenceTaskTest, ItsRandomisedModelKnowsNothingOfItsWeights) {
  const SentenceTask task = small_task();
  const Batch batch = task.test.data.batch({0, 1});
  const auto output = [&](uint64_t seed) {
    return task.randomised(seed)->record(batch.inputs).output();
  };
  EXPECT_TRUE(output(1).equal(output(1)));
  EXPECT_FALSE(output(1).equal(output(2)));
  EXPECT_FALSE(output(1).equal(task.model->record(batch.inputs).output()));
}

// Every token scores the same at both depths.
class Alike : public Attributor {
 public:
  explicit Alike(double score) : score_(score) {}
  Attribution attribute(const Batch& batch) const override {
    const at::Tensor scores = at::full({batch.size(), batch.mask.size(1), 2}, score_);
    return {{"low", "high"}, scores, scores.gt(0.5), batch.mask};
  }

 private:
  double score_;
};

TEST(SentenceTaskTest, ReadsRationalesOfDevelopmentAndTestPart) {
  const SentenceTask task = small_task();
  const auto sentence = [](const std::string& split, int64_t line, const Sentences& of) {
    const auto& words = of.sentences.at(static_cast<size_t>(line)).words;
    return RationaleSentence{.id = {},
                             .label = "positive",
                             .split = split,
                             .line = line,
                             .words = words,
                             .rationales = {{"a", "positive", std::vector(words.size(), true)}}};
  };
  const std::vector<RationaleSentence> marked = {sentence("dev", 1, task.development),
                                                 sentence("test", 0, task.test),
                                                 sentence("train", 0, task.training)};
  const Plausibility all = task.plausibility(Alike(1), marked, 0);
  EXPECT_EQ(all.sentences(), 2) << "nothing is said of what it learned from";
  EXPECT_EQ(all.f1(), 1);
  EXPECT_EQ(task.plausibility(Alike(0), marked, 0).f1(), 0);
}

TEST(SentenceTaskTest, AsASubjectSentencesThatPeopleMarkedComeFirst) {
  const SentenceTask task = small_task();
  const auto& words = task.test.sentences.at(2).words;
  const std::vector<RationaleSentence> marked = {
      {.id = {},
       .label = "positive",
       .split = "test",
       .line = 2,
       .words = words,
       .rationales = {{"a", "positive", std::vector(words.size(), true)}}}};
  const Subject subject = task.subject(marked, /*seed=*/1);
  EXPECT_EQ(subject.data->size(), task.test.data.size());
  EXPECT_TRUE(subject.data->batch({0}).inputs[0].equal(task.test.data.batch({2}).inputs[0]));
  EXPECT_TRUE(subject.data->batch({1}).inputs[0].equal(task.test.data.batch({0}).inputs[0]));
  EXPECT_TRUE(subject.truth.any(1).equal(at::arange(subject.data->size()).eq(0)));
  const Subject unmarked = task.subject({}, 1);
  EXPECT_FALSE(unmarked.truth.defined());
  EXPECT_TRUE(unmarked.data->batch({0}).inputs[0].equal(task.test.data.batch({0}).inputs[0]));
  EXPECT_EQ(unmarked.training->size(), task.development.data.size());
}

}  // namespace
}  // namespace diffmask
