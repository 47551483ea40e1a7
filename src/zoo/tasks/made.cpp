#include "diffmask/zoo/tasks/made.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/data/dataset.hpp"
#include "diffmask/zoo/data/words.hpp"

namespace diffmask {
namespace {

const std::vector<std::string> kFillers = {"the",  "a",   "film", "story", "actor",
                                           "with", "and", "it",   "of",    "."};
const std::vector<std::string> kNames = {"Anna", "Boris", "Clara", "David", "Elena", "Felix"};
const std::vector<std::string> kPlaces = {"Athens", "Bergen", "Cairo", "Delhi", "Essen", "Fargo"};

// One of 0 .. below - 1.
int64_t drawn(int64_t below, const at::Generator& generator) {
  return at::randint(below, {1}, generator, at::TensorOptions(at::kLong)).item<int64_t>();
}

const std::string& drawn(const std::vector<std::string>& from, const at::Generator& generator) {
  return from[static_cast<size_t>(drawn(static_cast<int64_t>(from.size()), generator))];
}

}  // namespace

const std::map<std::string, double>& made_lexicon() {
  static const std::map<std::string, double> lexicon = {
      {"awful", -3}, {"dull", -2}, {"boring", -1.5}, {"weak", -1},
      {"nice", 1},   {"good", 2},  {"fine", 1.5},    {"wonderful", 3}};
  return lexicon;
}

std::vector<Review> made_reviews(int64_t size, const at::Generator& generator) {
  require(size >= 1, "size", ">= 1", size);
  std::vector<std::string> valued;
  for (const auto& [word, valence] : made_lexicon()) valued.push_back(word);
  std::vector<Review> reviews;
  for (int64_t i = 0; i < size; ++i) {
    Review review;
    review.rating = 0.1 * at::rand({1}, generator, at::TensorOptions(at::kDouble)).item<double>();
    for (int64_t left = 4 + drawn(9, generator); left > 0; --left) {
      const std::string& word = drawn(drawn(2, generator) == 0 ? valued : kFillers, generator);
      review.words.push_back({word, word});
      if (const auto found = made_lexicon().find(word); found != made_lexicon().end()) {
        review.rating += found->second;
      }
    }
    reviews.push_back(std::move(review));
  }
  return reviews;
}

Squad made_squad(int64_t contexts, const at::Generator& generator) {
  require(contexts >= 1, "contexts", ">= 1", contexts);
  Squad squad;
  for (int64_t i = 0; i < contexts; ++i) {
    std::string context;
    const auto people = shuffled(static_cast<int64_t>(kNames.size()), generator);
    for (size_t k = 0; k < 3; ++k) {
      const std::string& name = kNames[static_cast<size_t>(people[k])];
      const std::string& place = drawn(kPlaces, generator);
      context += fmt::format("{}{} lives in ", k == 0 ? "" : " ", name);
      const auto begin = static_cast<int64_t>(context.size());
      context += place + ".";
      squad.questions.push_back({fmt::format("{}-{}", i, k),
                                 fmt::format("Where is {}?", name),
                                 static_cast<size_t>(i),
                                 {{place, {begin, begin + static_cast<int64_t>(place.size())}}}});
    }
    squad.contexts.push_back(std::move(context));
  }
  return squad;
}

LabelledImages made_images(int64_t size, const at::Generator& generator) {
  require(size >= 1, "size", ">= 1", size);
  LabelledImages made{0.2 * at::rand({size, 1, 28, 28}, generator, at::TensorOptions(at::kFloat)),
                      at::randint(10, {size}, generator, at::TensorOptions(at::kLong))};
  for (int64_t i = 0; i < size; ++i) {
    const auto label = made.labels[i].item<int64_t>();
    made.images[i][0].narrow(0, 7 * (label / 4), 7).narrow(1, 7 * (label % 4), 7).fill_(1);
  }
  return made;
}

WordPiece made_tokenizer() {
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                                     "where", "is",    "lives", "in",    "?"};
  tokens.insert(tokens.end(), kFillers.begin(), kFillers.end());
  for (const auto& [word, valence] : made_lexicon()) tokens.push_back(word);
  for (const auto& names : {kNames, kPlaces}) {
    for (const std::string& name : names) tokens.push_back(words(name).at(0).form);
  }
  return WordPiece(std::move(tokens), {.longest = 64});
}

std::shared_ptr<Bert> small_bert(const WordPiece& tokenizer, BertHead head,
                                 const at::Generator& generator) {
  auto net = std::make_shared<Bert>(BertConfig{.vocabulary = tokenizer.size(),
                                               .hidden_size = 32,
                                               .layers = 2,
                                               .heads = 2,
                                               .intermediate_size = 64,
                                               .positions = 64,
                                               .padding = tokenizer.padding()},
                                    head, generator);
  net->eval();
  return net;
}

}  // namespace diffmask
