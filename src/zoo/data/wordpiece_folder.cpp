// WordPiece from the files of a Hugging Face folder.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"
#include "zoo/data/wordpiece_parts.hpp"

namespace diffmask {
namespace {

using nlohmann::json;
using wordpiece::kLongestWord;
using wordpiece::kSpecial;
namespace fs = std::filesystem;

template <typename Read>
auto read_json(const std::string& path, const Read& read) {
  try {
    return read(json::parse(read_file(path)));
  } catch (const json::exception& error) {
    throw FileError(path, error.what());
  }
}

template <typename Value>
void expect(const std::string& path, const json& object, const std::string& key,
            const Value& value) {
  const json found = object.value(key, json(value));
  if (found != json(value)) {
    throw FileError(
        path, fmt::format("{} has to be {}, but got {}", key, json(value).dump(), found.dump()));
  }
}

void take_flag(const json& object, const std::string& key, bool& flag) {
  if (object.contains(key)) flag = object.at(key).get<bool>();
}

void take_accents(const json& object, WordPieceOptions& options) {
  if (!object.contains("strip_accents")) return;
  options.strip_accents.reset();
  if (!object.at("strip_accents").is_null()) options.strip_accents = object["strip_accents"];
}

void take_tokenizer(const std::string& path, const json& file, WordPieceOptions& options) {
  const json& model = file.at("model");
  expect(path, model, "type", "WordPiece");
  expect(path, model, "unk_token", "[UNK]");
  expect(path, model, "continuing_subword_prefix", "##");
  expect(path, model, "max_input_chars_per_word", kLongestWord);
  const json& normalizer = file.at("normalizer");
  expect(path, normalizer, "type", "BertNormalizer");
  expect(path, normalizer, "clean_text", true);
  take_flag(normalizer, "lowercase", options.lowercase);
  take_flag(normalizer, "handle_chinese_chars", options.chinese_characters);
  take_accents(normalizer, options);
  for (const json& token : file.value("added_tokens", json::array())) {
    const std::string content = token.at("content");
    if (std::find(kSpecial.begin(), kSpecial.end(), content) == kSpecial.end()) {
      throw FileError(path, fmt::format("the added token '{}' is not one of {}", content,
                                        fmt::join(kSpecial, ", ")));
    }
    for (const char* key : {"lstrip", "rstrip", "single_word", "normalized"}) {
      expect(path, token, key, false);
    }
  }
}

void take_config(const json& file, WordPieceOptions& options) {
  take_flag(file, "do_lower_case", options.lowercase);
  take_flag(file, "tokenize_chinese_chars", options.chinese_characters);
  take_accents(file, options);
  // Models without a limit have a number of 30 digits here, which JSON reads as floating point.
  const json longest = file.value("model_max_length", json());
  if (longest.is_number_integer()) options.longest = longest;
}

std::vector<std::string> tokens_of(const std::string& path, const json& file) {
  const json& ids = file.at("model").at("vocab");
  std::vector<std::string> tokens(ids.size());
  std::vector<bool> taken(ids.size());
  for (const auto& [token, number] : ids.items()) {
    const int64_t id = number;
    if (id < 0 || id >= static_cast<int64_t>(tokens.size()) || taken[id]) {
      throw FileError(path, fmt::format("the ids have to be 0..{}, each once, but got {} for '{}'",
                                        tokens.size() - 1, id, token));
    }
    tokens[id] = token;
    taken[id] = true;
  }
  return tokens;
}

}  // namespace

WordPieceOptions read_wordpiece_options(const std::string& folder) {
  WordPieceOptions options;
  const std::string tokenizer = (fs::path(folder) / "tokenizer.json").string();
  const std::string config = (fs::path(folder) / "tokenizer_config.json").string();
  if (fs::exists(tokenizer)) {
    read_json(tokenizer, [&](const json& file) { take_tokenizer(tokenizer, file, options); });
  }
  if (fs::exists(config)) {
    read_json(config, [&](const json& file) { take_config(file, options); });
  }
  return options;
}

WordPiece WordPiece::load(const std::string& path, std::optional<WordPieceOptions> options) {
  const bool is_folder = fs::is_directory(path);
  const fs::path folder = is_folder ? fs::path(path) : fs::path(path).parent_path();
  if (!options) options = read_wordpiece_options(folder.string());
  const std::string list = is_folder ? (folder / "vocab.txt").string() : path;
  const std::string tokenizer = (folder / "tokenizer.json").string();
  if (fs::exists(list) || !fs::exists(tokenizer)) return {read_lines(list), *options, list};
  return {read_json(tokenizer, [&](const json& file) { return tokens_of(tokenizer, file); }),
          *options, tokenizer};
}

}  // namespace diffmask
