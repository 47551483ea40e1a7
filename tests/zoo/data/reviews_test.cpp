#include "diffmask/zoo/data/reviews.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include <cmath>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

class ReviewsTest : public testing::Test {
 protected:
  std::vector<Review> reviews_of(const std::string& text) const {
    write_file(path_, text);
    return read_reviews(path_);
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "reviews.tsv";
};

TEST_F(ReviewsTest, ReadsBothLayouts) {
  for (const std::string end : {"\n", "\r\n"}) {
    for (const bool numbered : {false, true}) {
      const auto line = [&](const std::string& id, const std::string& rating,
                            const std::string& text) {
        return (numbered ? id + "\t" + rating + "\t" + text : text + "\t" + rating) + end;
      };
      const auto reviews =
          reviews_of(line("1_1", "2.5", "A fine film.") + line("1_2", "-3e-1", "b\u00C4h 5"));
      ASSERT_EQ(reviews.size(), 2u);
      EXPECT_EQ(reviews[0].rating, 2.5);
      ASSERT_EQ(reviews[0].words.size(), 4u);
      EXPECT_EQ(reviews[0].words[0].text, "A");
      EXPECT_EQ(reviews[0].words[0].form, "a");
      EXPECT_EQ(reviews[1].rating, -0.3);
      EXPECT_EQ(reviews[1].words[0].form, "b\u00E4h");
      EXPECT_EQ(reviews[1].words[1].form, "5");
    }
  }
  EXPECT_EQ(reviews_of("\xEF\xBB\xBF"
                       "fine\t1")
                .size(),
            1u);
}

TEST_F(ReviewsTest, NamesBrokenLines) {
  const auto read = [this](const std::string& text) { return [=, this] { reviews_of(text); }; };
  const std::string two = "fine\t1\n", three = "7\t1\tfine\n";
  const std::string rating = "the rating has to be a finite number, but got ";
  expect_refused<FileError>({
      {"no file", [&] { read_reviews(folder_ / "no"); }, folder_ / "no" + ": cannot be opened"},
      {"empty file", read(""), path_ + ": has no reviews"},
      {"no tab", read("fine\n"), path_ + ":1: has to hold id<TAB>rating<TAB>text, but got 1"},
      {"four fields", read("a\tb\tc\td\n"), path_ + ":1: "},
      {"a third field", read(two + two + "fine\t1\t2\n"),
       path_ + ":3: has to hold text<TAB>rating, but got 3 fields"},
      {"two fields of three", read(three + two),
       path_ + ":2: has to hold id<TAB>rating<TAB>text, but got 2 fields"},
      {"empty line", read(two + "\n" + two), path_ + ":2: has to hold text<TAB>rating"},
      {"rating", read(two + "fine\tgood\n"), path_ + ":2: " + rating + "'good'"},
      {"rating with a tail", read("fine\t1x\n"), path_ + ":1: " + rating + "'1x'"},
      {"rating with a comma", read("fine\t1,5\n"), rating + "'1,5'"},
      {"no rating", read("fine\t\n"), rating + "''"},
      {"NaN", read("fine\tnan\n"), rating + "'nan'"},
      {"infinite", read("fine\tinf\n"), rating + "'inf'"},
      {"too large", read("fine\t1e999\n"), rating + "'1e999'"},
      {"no word", read(three + "8\t1\t \n"), path_ + ":2: has to hold a text of at least one word"},
      {"not UTF-8", read(two + "caf\xE9\t1\n"), path_ + ":2: text has to be UTF-8, but got byte"},
  });
}

TEST_F(ReviewsTest, ReadsALexicon) {
  write_file(path_, "Good\t1.9\t0.9\t[2, 1]\r\n:)\t2.0\t1\nna\u00EFve\t-1.1\ngreat\t3.1\t0\n");
  const std::map<std::string, double> expected = {
      {"good", 1.9}, {"na\u00EFve", -1.1}, {"great", 3.1}};
  EXPECT_EQ(read_lexicon(path_), expected);
  const auto read = [this](const std::string& text) {
    return [=, this] {
      write_file(path_, text);
      read_lexicon(path_);
    };
  };
  expect_refused<FileError>({
      {"one field", read("good\t1\nbad\n"), path_ + ":2: has to hold word<TAB>valence"},
      {"valence", read("good\tone\n"),
       path_ + ":1: the valence has to be a finite number, but got 'one'"},
      {"not UTF-8", read("good\t1\ncaf\xE9\t1\n"), path_ + ":2: text has to be UTF-8"},
      {"no file", [&] { read_lexicon(folder_ / "no"); }, "cannot be opened"},
  });
}

TEST(QuantileTest, BordersCutTheSortedValuesEvenly) {
  EXPECT_EQ(quantile_borders({4, 1, 3, 2, 6, 5, 8, 7}, 2), (std::vector<double>{5}));
  EXPECT_EQ(quantile_borders({4, 1, 3, 2, 6, 5, 8, 7}, 4), (std::vector<double>{3, 5, 7}));
  // Of many values the classes are of one size, but for the values at the borders.
  std::vector<double> values;
  for (int i = 0; i < 1000; ++i) values.push_back(std::fmod(i * 0.618034, 1.0));
  const auto borders = quantile_borders(values, 5);
  ASSERT_EQ(borders.size(), 4u);
  std::vector<int64_t> sizes(5);
  for (const double value : values) ++sizes.at(static_cast<size_t>(quantile_class(value, borders)));
  for (const int64_t size : sizes) EXPECT_NEAR(static_cast<double>(size), 200, 1);
}

TEST(QuantileTest, AClassIsTheNumberOfBordersBelow) {
  const std::vector<double> borders = {-1, 0, 2};
  const std::vector<std::pair<double, int64_t>> table = {{-5, 0},   {-1, 0}, {-0.5, 1}, {0, 1},
                                                         {1e-9, 2}, {2, 2},  {2.5, 3},  {99, 3}};
  for (const auto& [value, expected] : table) {
    EXPECT_EQ(quantile_class(value, borders), expected) << value;
  }
}

TEST(QuantileTest, RefusesBadInput) {
  expect_refused({
      {"one class",
       [] {
         quantile_borders({1, 2}, 1);
       },
       "classes has to be >= 2, but got 1"},
      {"too few",
       [] {
         quantile_borders({1, 2}, 3);
       },
       "values has to be at least 3, one per class"},
      {"equal",
       [] {
         quantile_borders({1, 1, 1, 1}, 3);
       },
       "but got equal ones"},
  });
}

TEST(ReviewDatasetTest, HoldsWordNumbersMaskAndClasses) {
  const std::vector<Review> reviews = {
      {words("fine film"), 3}, {words("A bad , bad film"), -2}, {words("unheard"), 0}};
  const Vocabulary vocabulary({words("a fine bad film ,")}, 1);
  const PaddedDataset data = review_dataset(reviews, vocabulary, {-1, 1});
  EXPECT_EQ(data.size(), 3);
  EXPECT_EQ(data.longest(), 5);
  EXPECT_TRUE(data.labels().equal(at::tensor({2, 0, 1}, at::kLong)));
  const Batch batch = data.batch({1, 0, 2});
  EXPECT_NO_THROW(batch.validate());
  ASSERT_EQ(batch.inputs.size(), 2u);
  const at::Tensor ids =
      at::tensor({2, 4, 6, 4, 5, 3, 5, 0, 0, 0, 1, 0, 0, 0, 0}, at::kLong).view({3, 5});
  EXPECT_TRUE(batch.inputs[0].equal(ids)) << batch.inputs[0];
  EXPECT_TRUE(batch.mask.equal(ids.ne(Vocabulary::kPadding)));
  EXPECT_TRUE(batch.inputs[1].equal(batch.mask));
  EXPECT_TRUE(batch.labels.equal(at::tensor({0, 2, 1}, at::kLong)));
  EXPECT_EQ(data.batch({2, 0}).mask.sizes(), at::IntArrayRef({2, 2}));
  expect_refused({{"none", [&] { review_dataset({}, vocabulary, {}); }, "reviews has to be"}});
}

TEST(ReviewPartsTest, AreTheSameOnEveryRun) {
  std::vector<Review> reviews(100);
  for (size_t i = 0; i < reviews.size(); ++i) reviews[i].rating = static_cast<double>(i);
  const ReviewParts parts = split_reviews(reviews), again = split_reviews(reviews);
  EXPECT_EQ(parts.training.size(), 80u);
  EXPECT_EQ(parts.development.size(), 10u);
  EXPECT_EQ(parts.held_out.size(), 10u);
  EXPECT_EQ(ratings_of(parts.training), ratings_of(again.training));
  std::vector<double> all;
  for (const auto* part : {&parts.training, &parts.development, &parts.held_out}) {
    for (const double rating : ratings_of(*part)) all.push_back(rating);
  }
  EXPECT_FALSE(std::is_sorted(all.begin(), all.end()));
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, ratings_of(reviews)) << "each review once";
  reviews.resize(49);
  expect_refused({{"few", [&] { split_reviews(reviews); }, "reviews has to be at least 50"}});
}

// Ratings 0..99 with one word each, of which every other text has "odd" and the others one of a kind.
TEST(ReviewDatasetsTest, KnowWordsAndQuantilesOfTheTrainingPart) {
  std::vector<Review> reviews;
  for (int i = 0; i < 100; ++i) {
    const std::string word = i % 2 == 1 ? "odd" : std::string("word") + std::to_string(i);
    reviews.push_back({{{word, word}}, static_cast<double>(i)});
  }
  const ReviewParts parts = split_reviews(reviews);
  const ReviewDatasets data = review_datasets(parts, 4);
  EXPECT_EQ(data.vocabulary.size(), 3) << "padding, unknown, odd";
  EXPECT_EQ(data.borders, quantile_borders(ratings_of(parts.training), 4));
  EXPECT_EQ(data.training.size(), 80);
  EXPECT_EQ(data.development.size(), 10);
  ASSERT_EQ(data.held_out.size(), 10);
  const Batch batch = data.held_out.batch(iota(10));
  for (int64_t i = 0; i < 10; ++i) {
    const Review& review = parts.held_out[static_cast<size_t>(i)];
    EXPECT_EQ(batch.inputs[0][i][0].item<int64_t>(), data.vocabulary.id(review.words[0].form));
    EXPECT_EQ(batch.labels[i].item<int64_t>(), quantile_class(review.rating, data.borders));
  }
  EXPECT_GT(review_datasets(parts, 4, /*least=*/1).vocabulary.size(), 30);
}

TEST(ValenceTest, HasFiveClasses) {
  const std::map<std::string, double> lexicon = {
      {"awful", -2}, {"dull", -1.9}, {"nice", 1.9}, {"great", 2}};
  EXPECT_EQ(valence_class(lexicon, "awful"), 0);
  EXPECT_EQ(valence_class(lexicon, "dull"), 1);
  EXPECT_EQ(valence_class(lexicon, "film"), 2);
  EXPECT_EQ(valence_class(lexicon, "nice"), 3);
  EXPECT_EQ(valence_class(lexicon, "great"), 4);
  EXPECT_EQ(valence_names()[2], "none");

  const std::vector<Review> reviews = {{words("Great film"), 3.0}, {words("dull"), -1.0}};
  const auto sentences = labelled_sentences(reviews, {0.0, 1.0}, lexicon);
  ASSERT_EQ(sentences.size(), 2u);
  EXPECT_EQ(sentences[0].label, 2);
  EXPECT_EQ(sentences[0].words, (std::vector<std::string>{"Great", "film"}));
  EXPECT_EQ(sentences[0].word_labels, (std::vector<int64_t>{4, 2}));
  EXPECT_EQ(sentences[1].label, 0);

  Attribution attribution;
  attribution.scores = at::tensor({1.0, 0.5, 0.25, 0.25, 1.0, 1.0, 0.0, 0.0}).view({2, 2, 2});
  attribution.mask = at::tensor({1, 1, 1, 0}).view({2, 2}).to(at::kBool);
  const auto survived = survival_by_valence(attribution, reviews, lexicon);
  EXPECT_EQ(survived[4], 1.5);
  EXPECT_EQ(survived[2], 0.5);
  EXPECT_EQ(survived[1], 2.0);
  EXPECT_TRUE(std::isnan(survived[0]));
}

TEST(ReviewHeatmapsTest, NameWordsAndClasses) {
  const std::vector<Review> reviews = {{words("A Fine film"), 1.0}, {words("dull"), -1.0}};
  const at::Tensor scores = at::rand({2, 3, 1}, make_generator(0));
  at::Tensor mask = at::ones({2, 3}, at::kBool);
  mask[1].narrow(0, 1, 2).fill_(false);
  const Attribution attribution{{"low"}, scores, scores.gt(0.5), mask};
  const auto labels = at::tensor(std::vector<int64_t>{1, 0}, at::kLong);
  const auto maps = review_heatmaps(attribution, reviews, {"bad", "good"}, 1 - labels, labels);
  ASSERT_EQ(maps.size(), 2u);
  EXPECT_EQ(maps[0].title, "Review 1: predicted bad, rated good");
  EXPECT_EQ(maps[0].positions, (std::vector<std::string>{"A", "Fine", "film"}));
  EXPECT_EQ(maps[1].positions, (std::vector<std::string>{"dull"}));
  EXPECT_EQ(review_heatmaps(attribution, reviews, {"bad", "good"}, labels.narrow(0, 0, 1),
                            labels.narrow(0, 0, 1))
                .size(),
            1u);
}

}  // namespace
}  // namespace diffmask
