// WordPiece from the files of a Hugging Face folder.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/zoo/data/wordpiece.hpp"
#include "zoo/data/wordpiece_parts.hpp"

namespace diffmask {
namespace {

using nlohmann::json;
using wordpiece::kLongestWord;
namespace fs = std::filesystem;

template <typename Read>
auto read_json(const std::string& path, const Read& read) {
  try {
    return read(json::parse(read_file(path)));
  } catch (const json::exception& error) {
    throw FileError(path, error.what());
  }
}

template <typename Read>
void read_json_if_there(const std::string& path, const Read& read) {
  if (fs::exists(path)) read_json(path, read);
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
}

void take_config(const json& file, WordPieceOptions& options) {
  take_flag(file, "do_lower_case", options.lowercase);
  take_flag(file, "tokenize_chinese_chars", options.chinese_characters);
  take_accents(file, options);
  // Models without a limit have a number of 30 digits here, which JSON reads as floating point.
  const json longest = file.value("model_max_length", json());
  if (longest.is_number_integer()) options.longest = longest;
}

// A token as the files write it: its content, or an object. Unless they say otherwise, special
// tokens are found in uncleaned texts, and others in cleaned ones.
AddedToken token_of(const json& value, bool special) {
  if (value.is_string()) return {.content = value, .special = special, .normalized = !special};
  AddedToken token{.content = value.at("content"), .special = value.value("special", special)};
  token.normalized = value.value("normalized", !token.special);
  take_flag(value, "single_word", token.single_word);
  take_flag(value, "lstrip", token.lstrip);
  take_flag(value, "rstrip", token.rstrip);
  return token;
}

using SpecialName = std::array<std::string_view, 2>;
constexpr std::array<SpecialName, 5> kSpecialNames = {{{"pad_token", "[PAD]"},
                                                       {"unk_token", "[UNK]"},
                                                       {"cls_token", "[CLS]"},
                                                       {"sep_token", "[SEP]"},
                                                       {"mask_token", "[MASK]"}}};

// The special tokens that a file names, such as "mask_token".
std::vector<AddedToken> named_tokens(const std::string& path, const json& file) {
  std::vector<AddedToken> tokens;
  for (const auto& item : file.items()) {
    const std::string& name = item.key();
    const json& value = item.value();
    if (!name.ends_with("_token") || !(value.is_string() || value.is_object())) continue;
    tokens.push_back(token_of(value, true));
    const auto fixed = std::find_if(kSpecialNames.begin(), kSpecialNames.end(),
                                    [&](const auto& pair) { return pair[0] == name; });
    if (fixed != kSpecialNames.end() && tokens.back().content != (*fixed)[1]) {
      throw FileError(path, fmt::format("{} has to be {}, but got {}", name, (*fixed)[1],
                                        tokens.back().content));
    }
  }
  return tokens;
}

// The special tokens that have no name.
void take_listed(const json& file, const char* key, std::vector<AddedToken>& tokens) {
  if (!file.contains(key)) return;
  for (const json& value : file.at(key)) tokens.push_back(token_of(value, true));
}

// Of the tokens with ids, tokenizer_config.json's table counts before tokenizer.json, and this
// before the files of older versions. Special tokens without an id follow.
std::vector<AddedToken> added_tokens(const fs::path& folder) {
  const std::string tokenizer = (folder / "tokenizer.json").string(),
                    config = (folder / "tokenizer_config.json").string(),
                    old_names = (folder / "special_tokens_map.json").string(),
                    old_ids = (folder / "added_tokens.json").string();
  std::map<int64_t, AddedToken> numbered;
  std::vector<AddedToken> special;
  json table;
  read_json_if_there(config, [&](const json& file) {
    table = file.value("added_tokens_decoder", json());
    special = named_tokens(config, file);
    take_listed(file, "extra_special_tokens", special);
    take_listed(file, "additional_special_tokens", special);
  });
  const auto same = [](const std::string& content) {
    return [&](const AddedToken& token) { return token.content == content; };
  };
  const auto is_special = [&](const std::string& content) {
    return std::any_of(special.begin(), special.end(), same(content));
  };
  if (table.is_null()) {
    std::vector<AddedToken> listed;
    read_json_if_there(old_names, [&](const json& file) {
      const std::vector<AddedToken> named = named_tokens(old_names, file);
      special.insert(special.begin(), named.begin(), named.end());
      take_listed(file, "extra_special_tokens", special);
      take_listed(file, "additional_special_tokens", listed);
    });
    // What the old file lists as additional is not special here: transformers 5 has it so.
    read_json_if_there(old_ids, [&](const json& file) {
      for (const auto& [content, id] : file.items())
        numbered[id] = token_of(content, is_special(content));
    });
    special.insert(special.end(), listed.begin(), listed.end());
  }
  read_json_if_there(tokenizer, [&](const json& file) {
    for (const json& token : file.value("added_tokens", json::array()))
      numbered[token.at("id")] = token_of(token, false);
  });
  read_json_if_there(config, [&](const json&) {
    for (const auto& [id, token] : table.items())
      numbered[json::parse(id)] = token_of(token, false);
  });
  std::vector<AddedToken> tokens;
  for (auto& [id, token] : numbered) {
    token.id = id;
    tokens.push_back(token);
  }
  for (const AddedToken& token : special) {
    if (std::none_of(tokens.begin(), tokens.end(), same(token.content))) tokens.push_back(token);
  }
  return tokens;
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
  read_json_if_there(tokenizer,
                     [&](const json& file) { take_tokenizer(tokenizer, file, options); });
  read_json_if_there(config, [&](const json& file) { take_config(file, options); });
  options.added = added_tokens(folder);
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
