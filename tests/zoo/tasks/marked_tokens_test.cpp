#include "diffmask/zoo/tasks/marked_tokens.hpp"

#include <gtest/gtest.h>

#include "diffmask/zoo/tasks/made.hpp"

namespace diffmask {
namespace {

// With [CLS] and [SEP], five tokens each.
TEST(MarkedTokensTest, AreThoseOfWordsThatHalfOfThePeopleMarked) {
  const Sentences sentences = encode_sentences({{3, {"a", "good", "film"}, {2, 4, 2}},
                                                {1, {"the", "dull", "actor"}, {2, 0, 2}},
                                                {1, {"a", "dull", "film"}, {2, 0, 2}}},
                                               made_tokenizer());
  const std::vector<RationaleSentence> rationales = {
      {"1",
       "positive",
       "test",
       0,
       {"a", "good", "film"},
       {{"x", "positive", {false, true, false}},
        {"y", "positive", {false, true, true}},
        {"z", "positive", {true, false, false}}}},
      {"2", "negative", "test", 1, {"the", "dullactor"}, {{"x", "negative", {false, true}}}},
      {"3", "negative", "test", 2, {"another", "text"}, {{"x", "negative", {true, true}}}},
      {"4", "negative", "dev", 2, {"a", "dull", "film"}, {{"x", "negative", {true, true, true}}}}};
  // Words that are divided otherwise are matched by their characters; other texts and other splits
  // do not count.
  const at::Tensor expected =
      at::tensor({0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0}).view({3, 5}).to(at::kBool);
  EXPECT_TRUE(marked_tokens(rationales, "test", sentences).equal(expected));
}

}  // namespace
}  // namespace diffmask
