#include <ATen/ATen.h>
#include <fmt/format.h>

#include "diffmask/zoo/data/counting.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"

namespace diffmask {
namespace {

constexpr int64_t kDigits = 10, kLongest = 10;
constexpr const char* kHeader = "split,n,m,length,label,x0,x1,x2,x3,x4,x5,x6,x7,x8,x9";

at::Tensor count(const at::Tensor& digits, const at::Tensor& valid, const at::Tensor& digit) {
  return digits.eq(digit.unsqueeze(1)).logical_and(valid).sum(1);
}

at::Tensor valid_positions(const at::Tensor& lengths) {
  return at::arange(kLongest).unsqueeze(0).lt(lengths.unsqueeze(1));
}

at::Tensor true_labels(const CountingData& data) {
  const at::Tensor valid = valid_positions(data.lengths);
  return count(data.digits, valid, data.queries.select(1, 0))
      .gt(count(data.digits, valid, data.queries.select(1, 1)))
      .to(at::kLong);
}

}  // namespace

PaddedDataset CountingData::dataset() const {
  return PaddedDataset({{digits, /*is_sequence=*/true}, {queries}}, lengths, labels);
}

at::Tensor CountingData::relevant() const {
  const at::Tensor n = queries.select(1, 0).unsqueeze(1), m = queries.select(1, 1).unsqueeze(1);
  return digits.eq(n).logical_or(digits.eq(m)).logical_and(valid_positions(lengths));
}

CountingData make_counting(int64_t size, at::Generator generator) {
  require(size >= 1, "size", ">= 1", size);
  CountingData data;
  // The first two of a random order of the digits are the query.
  const at::Tensor order = at::argsort(at::rand({size, kDigits}, generator), int64_t{1}, false);
  data.queries = order.narrow(1, 0, 2).contiguous();
  data.lengths = at::randint(1, kLongest + 1, {size}, generator, at::TensorOptions(at::kLong));
  at::Tensor weights = at::full({size, kDigits}, 0.5 / 8);
  weights.scatter_(1, data.queries, 0.25);
  data.digits = at::multinomial(weights, kLongest, /*replacement=*/true, generator);
  data.digits = data.digits * valid_positions(data.lengths);
  data.labels = true_labels(data);
  return data;
}

CountingData read_counting(const std::string& path, const std::string& wanted_split) {
  const std::vector<std::string> lines = read_lines(path);
  if (lines.empty() || lines[0] != kHeader) {
    throw FileError(path, 1, fmt::format("has to be the header '{}'", kHeader));
  }
  std::vector<int64_t> values;
  for (size_t i = 1; i < lines.size(); ++i) {
    const auto number = static_cast<int64_t>(i) + 1;
    const std::vector<std::string> fields = split(lines[i], ',');
    std::vector<int64_t> row;
    for (size_t j = 1; j < fields.size(); ++j) {
      const std::string& field = fields[j];
      int64_t value = -1;
      const auto [end, problem] = std::from_chars(field.data(), field.data() + field.size(), value);
      if (problem != std::errc() || end != field.data() + field.size()) {
        throw FileError(path, number, fmt::format("'{}' has to be a whole number", field));
      }
      if (value < 0 || value > (row.size() == 2 ? kLongest : kDigits - 1)) {
        throw FileError(
            path, number,
            fmt::format("{} has to be a digit, or a length of at most {}", value, kLongest));
      }
      row.push_back(value);
    }
    if (row.size() != 4 + kLongest || row[2] < 1 || row[3] > 1) {
      throw FileError(path, number, "has to hold split, n, m, length 1..10, label 0..1, 10 digits");
    }
    if (row[0] == row[1]) throw FileError(path, number, "has to ask for two different digits");
    const auto first = row.begin() + 4, last = first + row[2];
    if ((std::count(first, last, row[0]) > std::count(first, last, row[1])) != (row[3] == 1)) {
      throw FileError(path, number, "has to have label 1 iff there are more n than m");
    }
    if (fields[0] == wanted_split) values.insert(values.end(), row.begin(), row.end());
  }
  if (values.empty()) throw FileError(path, fmt::format("has no rows of split '{}'", wanted_split));
  const at::Tensor table = at::tensor(values, at::kLong).view({-1, 4 + kLongest});
  CountingData data{table.narrow(1, 0, 2).contiguous(), table.narrow(1, 4, kLongest).contiguous(),
                    table.select(1, 2).contiguous(), table.select(1, 3).contiguous()};
  return data;
}

}  // namespace diffmask
