#include "diffmask/zoo/data/counting.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

constexpr const char* kHeader = "split,n,m,length,label,x0,x1,x2,x3,x4,x5,x6,x7,x8,x9\n";

TEST(CountingTest, DrawsTheTask) {
  constexpr int64_t kSize = 20'000;
  const CountingData data = make_counting(kSize, make_generator(0));
  ASSERT_EQ(data.size(), kSize);
  EXPECT_NO_THROW(data.dataset().batch({0, 1, 2}).validate());

  const auto digits = data.digits.accessor<int64_t, 2>();
  const auto queries = data.queries.accessor<int64_t, 2>();
  const auto lengths = data.lengths.accessor<int64_t, 1>();
  const auto labels = data.labels.accessor<int64_t, 1>();
  const at::Tensor relevant = data.relevant();
  std::array<int64_t, 11> of_length{};
  std::array<int64_t, 10> of_query{};
  int64_t n_drawn = 0, m_drawn = 0, drawn = 0;
  for (int64_t i = 0; i < kSize; ++i) {
    const int64_t n = queries[i][0], m = queries[i][1];
    ASSERT_NE(n, m);
    ++of_query.at(n);
    ++of_length.at(lengths[i]);
    int64_t n_count = 0, m_count = 0;
    for (int64_t t = 0; t < 10; ++t) {
      const bool valid = t < lengths[i], counts = digits[i][t] == n || digits[i][t] == m;
      ASSERT_TRUE(valid || digits[i][t] == 0) << "padding is 0";
      ASSERT_EQ(relevant[i][t].item<bool>(), valid && counts);
      n_count += valid && digits[i][t] == n;
      m_count += valid && digits[i][t] == m;
    }
    ASSERT_EQ(labels[i], n_count > m_count);
    n_drawn += n_count, m_drawn += m_count, drawn += lengths[i];
  }
  // Five standard deviations of a binomial share: sqrt(p (1 - p) / draws) with 20,000 and 110,000
  // draws.
  EXPECT_EQ(of_length[0], 0);
  for (int length = 1; length <= 10; ++length) EXPECT_NEAR(of_length[length] / 2e4, 0.1, 0.011);
  for (const int64_t count : of_query) EXPECT_NEAR(count / 2e4, 0.1, 0.011);
  EXPECT_NEAR(static_cast<double>(n_drawn) / drawn, 0.25, 0.007);
  EXPECT_NEAR(static_cast<double>(m_drawn) / drawn, 0.25, 0.007);
}

TEST(CountingTest, SameSeedSameBits) {
  const auto first = make_counting(50, make_generator(3)),
             again = make_counting(50, make_generator(3));
  EXPECT_TRUE(first.digits.equal(again.digits));
  EXPECT_TRUE(first.queries.equal(again.queries));
  EXPECT_TRUE(first.lengths.equal(again.lengths));
  EXPECT_FALSE(first.digits.equal(make_counting(50, make_generator(4)).digits));
  expect_refused({{"none", [] { make_counting(0, make_generator(0)); }, "size has to be >= 1"}});
}

TEST(CountingTest, ReadsOneSplit) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.csv";
  write_file(path, std::string(kHeader) + "train,9,8,1,1,9,0,0,0,0,0,0,0,0,0\n" +
                       "validation,1,2,3,0,1,2,5,0,0,0,0,0,0,0\n" +
                       "train,0,9,10,0,0,9,1,2,3,4,5,6,7,8\n");
  const CountingData data = read_counting(path, "train");
  EXPECT_TRUE(data.queries.equal(at::tensor({9, 8, 0, 9}, at::kLong).view({2, 2})));
  EXPECT_TRUE(data.lengths.equal(at::tensor({1, 10}, at::kLong)));
  EXPECT_TRUE(data.labels.equal(at::tensor({1, 0}, at::kLong)));
  EXPECT_TRUE(data.digits[1].equal(at::tensor({0, 9, 1, 2, 3, 4, 5, 6, 7, 8}, at::kLong)));
  const Batch batch = read_counting(path, "validation").dataset().batch({0});
  EXPECT_TRUE(batch.inputs.at(0).equal(at::tensor({1, 2, 5}, at::kLong).view({1, 3})));
  EXPECT_TRUE(batch.inputs.at(1).equal(at::tensor({1, 2}, at::kLong).view({1, 2})));
  EXPECT_TRUE(batch.inputs.at(2).equal(batch.mask));
}

TEST(CountingTest, NamesTheBrokenLine) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.csv", good = "train,9,8,1,1,9,0,0,0,0,0,0,0,0,0\n";
  struct Line {
    std::string name, line, message;
  };
  const std::vector<Line> lines = {
      {"text", "train,9,8,1,1,nine,0,0,0,0,0,0,0,0,0\n", "'nine' has to be a whole number"},
      {"an empty field", "train,9,8,1,1,,0,0,0,0,0,0,0,0,0\n", "'' has to be a whole number"},
      {"half a number", "train,9,8,1,1,9.5,0,0,0,0,0,0,0,0,0\n", "'9.5'"},
      {"a huge number", "train,9,8,1,1,99999999999999999999,0,0,0,0,0,0,0,0,0\n", "whole number"},
      {"digit 10", "train,9,8,1,1,10,0,0,0,0,0,0,0,0,0\n", "10 has to be a digit"},
      {"a negative digit", "train,9,8,1,1,-1,0,0,0,0,0,0,0,0,0\n", "-1 has to be a digit"},
      {"length 0", "train,9,8,0,1,9,0,0,0,0,0,0,0,0,0\n", "length 1..10"},
      {"length 11", "train,9,8,11,1,9,0,0,0,0,0,0,0,0,0\n", "length of at most 10"},
      {"a wrong label", "train,9,8,1,0,9,0,0,0,0,0,0,0,0,0\n", "label 1 iff there are more n"},
      {"one digit twice", "train,9,9,1,0,9,0,0,0,0,0,0,0,0,0\n", "two different digits"},
      {"label 2", "train,9,8,1,2,9,0,0,0,0,0,0,0,0,0\n", "label 0..1"},
      {"nine digits", "train,9,8,1,1,9,0,0,0,0,0,0,0,0\n", "10 digits"},
      {"eleven digits", "train,9,8,1,1,9,0,0,0,0,0,0,0,0,0,0\n", "10 digits"},
      {"a comma at the end", "train,9,8,1,1,9,0,0,0,0,0,0,0,0,0,\n", "'' has to be a whole number"},
      {"a blank line", "\n" + good, "has to hold split"},
  };
  std::vector<BadInput> table;
  for (const Line& line : lines) {
    const auto read = [&] {
      write_file(path, kHeader + good + line.line);
      read_counting(path, "train");
    };
    table.push_back({line.name + ", its number", read, path + ":3: "});
    table.push_back({line.name, read, line.message});
  }
  const auto read_text = [&](const std::string& text) {
    return [&path, text] {
      write_file(path, text);
      read_counting(path, "train");
    };
  };
  table.push_back({"no header", read_text(good), path + ":1: has to be the header"});
  table.push_back({"nothing", read_text(""), path + ":1: has to be the header"});
  table.push_back({"no such split", read_text(kHeader), "has no rows of split 'train'"});
  table.push_back({"no file", [&] { read_counting(folder / "no", "train"); }, "cannot be opened"});
  expect_refused<FileError>(table);
}

}  // namespace
}  // namespace diffmask
