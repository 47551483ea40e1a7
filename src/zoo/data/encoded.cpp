#include <ATen/ATen.h>
#include <fmt/format.h>

#include "diffmask/zoo/data/encoded.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

constexpr int64_t kFraming = -1;  // the word of [CLS] and [SEP] in an Encoding

// For each token the number of its word, from 0 without gaps; words of the second text follow those
// of the first. [CLS] and [SEP] count as words if they are explained, else they have -1.
std::vector<int64_t> group_numbers(const Encoding& encoding, bool explain_special) {
  std::map<std::pair<int64_t, int64_t>, int64_t> numbers;
  int64_t next = 0;
  std::vector<int64_t> groups;
  for (size_t t = 0; t < encoding.words.size(); ++t) {
    if (encoding.words[t] == kFraming) {
      groups.push_back(explain_special ? next++ : -1);
      continue;
    }
    const auto [place, is_new] = numbers.try_emplace({encoding.types[t], encoding.words[t]}, next);
    if (is_new) ++next;
    groups.push_back(place->second);
  }
  return groups;
}

}  // namespace

EncodedDataset::EncodedDataset(std::vector<Encoding> encodings, at::Tensor labels,
                               EncodedOptions options)
    : encodings_(std::move(encodings)), labels_(std::move(labels)), options_(options) {
  require(!encodings_.empty(), "encodings", "of at least one text", "none");
  for (size_t i = 0; i < encodings_.size(); ++i) {
    const Encoding& encoding = encodings_[i];
    const auto& words = encoding.words;
    const std::string name = fmt::format("encodings[{}]", i);
    require(words.size() == encoding.ids.size() && encoding.types.size() == encoding.ids.size(),
            name, "of as many ids as types and words", encoding.size());
    const int64_t explained =
        options_.explain_special
            ? encoding.size()
            : encoding.size() - std::count(words.begin(), words.end(), kFraming);
    require(explained >= 1, name, "of at least one token to explain", explained);
    has_pairs_ |= std::any_of(encoding.types.begin(), encoding.types.end(),
                              [](int64_t type) { return type != 0; });
  }
  require(!labels_.defined() || (labels_.dim() > 0 && labels_.size(0) == size()), "labels",
          fmt::format("one for each of {} encodings", size()),
          labels_.defined() ? shape_string(labels_.sizes()) : "");
}

int64_t EncodedDataset::length(int64_t example) const {
  require(example >= 0 && example < size(), "example", fmt::format("in 0..{}", size() - 1),
          example);
  return encodings_[static_cast<size_t>(example)].size();
}

Batch EncodedDataset::batch(const std::vector<int64_t>& examples) const {
  require(!examples.empty(), "examples", "at least one", "none");
  const auto rows = static_cast<int64_t>(examples.size());
  int64_t longest = 0;
  for (const int64_t example : examples) longest = std::max(longest, length(example));

  const at::Tensor ids = at::full({rows, longest}, options_.padding, at::kLong);
  const at::Tensor types = at::zeros({rows, longest}, at::kLong);
  const at::Tensor attended = at::zeros({rows, longest}, at::kBool);
  const at::Tensor mask = at::zeros({rows, longest}, at::kBool);
  const at::Tensor groups = at::full({rows, longest}, -1, at::kLong);
  for (int64_t row = 0; row < rows; ++row) {
    const Encoding& encoding = encodings_[static_cast<size_t>(examples[static_cast<size_t>(row)])];
    const auto put = [&](const at::Tensor& to, const std::vector<int64_t>& values) {
      std::copy(values.begin(), values.end(), to.data_ptr<int64_t>() + row * longest);
    };
    put(ids, encoding.ids);
    put(types, encoding.types);
    if (options_.tie_words) put(groups, group_numbers(encoding, options_.explain_special));
    for (int64_t t = 0; t < encoding.size(); ++t) {
      const bool is_framing = encoding.words[static_cast<size_t>(t)] == kFraming;
      attended.data_ptr<bool>()[row * longest + t] = true;
      mask.data_ptr<bool>()[row * longest + t] = options_.explain_special || !is_framing;
    }
  }

  Batch batch;
  batch.inputs = {ids, attended};
  if (has_pairs_) batch.inputs.push_back(types);
  batch.mask = mask;
  batch.examples = at::tensor(examples, at::kLong);
  if (labels_.defined()) batch.labels = labels_.index_select(0, batch.examples);
  if (options_.tie_words) batch.groups = groups;
  return batch;
}

std::vector<double> word_means(const Encoding& encoding, const at::Tensor& values, int64_t words) {
  require(words >= 0, "words", ">= 0", words);
  check_shape("values", values, {-1});
  require(values.size(0) >= encoding.size(), "values",
          fmt::format("of at least {} tokens", encoding.size()), values.size(0));
  const at::Tensor numbers = values.to(at::kDouble).contiguous();
  std::vector<double> sums(static_cast<size_t>(words), 0.0), counts(sums.size(), 0.0);
  for (size_t t = 0; t < encoding.words.size(); ++t) {
    const int64_t word = encoding.words[t];
    if (word == kFraming || encoding.types[t] != 0) continue;
    require(word < words, "words", fmt::format("> {}", word), words);
    sums[static_cast<size_t>(word)] += numbers.data_ptr<double>()[t];
    counts[static_cast<size_t>(word)] += 1;
  }
  for (size_t word = 0; word < sums.size(); ++word) sums[word] /= std::max(counts[word], 1.0);
  return sums;
}

}  // namespace diffmask
