#pragma once
/// \file
/// Small data made by a few rules, for quick runs and tests that need no files: what decides is
/// known, and small nets learn it in seconds.
///
///     const std::vector<Review> reviews = made_reviews(400, make_generator(0));
///     const WordPiece tokenizer = made_tokenizer();
///     const auto net = small_bert(tokenizer, {.classes = 5}, make_generator(1));

#include <ATen/core/Generator.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/zoo/data/images.hpp"
#include "diffmask/zoo/data/reviews.hpp"
#include "diffmask/zoo/data/squad.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"
#include "diffmask/zoo/nets/bert.hpp"

namespace diffmask {

/// Valences in [-3, 3] of some words.
const std::map<std::string, double>& made_lexicon();

/// Texts of 4 to 12 words, about half of them from the lexicon. A rating is the sum of the words'
/// valences, and a little noise.
std::vector<Review> made_reviews(int64_t size, const at::Generator& generator);

/// Passages that say where each of three people lives, and a question about each.
Squad made_squad(int64_t contexts, const at::Generator& generator);

/// Dark noise of 28 x 28 pixels with one bright square of 7 x 7, whose place, one of ten, is the
/// label.
LabelledImages made_images(int64_t size, const at::Generator& generator);

/// Knows every word of the texts above.
WordPiece made_tokenizer();

/// An untrained BERT of 2 layers of 32 numbers, for texts of 64 tokens at most.
std::shared_ptr<Bert> small_bert(const WordPiece& tokenizer, BertHead head,
                                 const at::Generator& generator);

}  // namespace diffmask
