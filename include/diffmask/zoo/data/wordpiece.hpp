#pragma once
/// \file
/// BERT's tokenizer: texts as ids of sub-words, each with the bytes that it stands for.
///
///     const WordPiece tokenizer = WordPiece::load("models/sst2");
///     const Encoding encoding = tokenizer.encode("An unaffable film.");
///     fmt::print("{}\n", tokenizer.token(encoding.ids.at(1)));   // an
///
///     text -> added tokens written in it | cleaned, lower case, without accents
///          -> added tokens in the cleaned text
///          -> words (between white space; each punctuation mark or Chinese character is one)
///          -> the longest sub-word of the vocabulary, repeatedly; [UNK] if there is none
///
/// Devlin et al.: "BERT: Pre-training of deep bidirectional transformers", NAACL 2019; WordPiece:
/// Wu et al., arXiv 1609.08144. Ids, offsets and word numbers are those of Hugging Face's
/// BertTokenizerFast (tests/reference/wordpiece.py, added_tokens.py), except that offsets count bytes, not
/// characters, and that letters newer than the installed utf8proc have no lower case.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace diffmask {

struct Character;
namespace wordpiece {
class AddedTokens;
}

/// A token that is found in the text before the text is split into words, as one added by
/// transformers' add_tokens. Where several begin at one place, the longest counts.
struct AddedToken {
  std::string content;       ///< not empty
  bool special = false;      ///< found before others that look the same in the cleaned text
  bool normalized = true;    ///< found in the cleaned text, after its content was cleaned too
  bool single_word = false;  ///< only found where no letter, digit or mark touches it
  bool lstrip = false;       ///< takes the white space before it with it
  bool rstrip = false;       ///< takes the white space after it with it
  /// If set, the id that it has to get: its place in the vocabulary; if it is not there, the first
  /// free one after the vocabulary and the tokens added before.
  std::optional<int64_t> id = {};
};

struct WordPieceOptions {
  enum class Overflow { truncate, error };

  bool lowercase = true;
  std::optional<bool> strip_accents = {};  ///< if not set, the same as lowercase
  bool chinese_characters = true;          ///< whether each Chinese character is a word
  int64_t longest = 512;                   ///< positions, special tokens included, >= 3
  Overflow overflow = Overflow::truncate;  ///< what to do with longer texts
  /// In the order of their ids. [PAD], [UNK], [CLS], [SEP] and [MASK] are found in the uncleaned
  /// text unless they stand here with other rules.
  std::vector<AddedToken> added = {};

  void validate() const;
};

/// Half-open range of bytes in a UTF-8 text.
struct ByteSpan {
  int64_t begin = 0, end = 0;
  bool operator==(const ByteSpan&) const = default;
};

/// The tokens of a text, or of a pair. Shape: ids, types, words, bytes (T).
struct Encoding {
  std::vector<int64_t> ids;
  std::vector<int64_t> types;  ///< 0; 1 for the second text of a pair and its [SEP]
  /// The word that a token belongs to, from 0 in each text; -1 for the added [CLS] and [SEP].
  std::vector<int64_t> words;
  /// The bytes of the original text, before any cleaning, that a token stands for; (0, 0) for the
  /// added [CLS] and [SEP].
  std::vector<ByteSpan> bytes;
  int64_t invalid = 0;  ///< number of byte sequences that were not UTF-8 and are left out
  int64_t cut = 0;      ///< number of tokens left out because the text was too long

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
};

/// The options of a Hugging Face folder: from tokenizer.json, overridden by tokenizer_config.json;
/// the defaults if neither exists. Added tokens come from these, and from the files of older
/// versions, added_tokens.json and special_tokens_map.json. FileError for a tokenizer of another
/// kind, and for special tokens with other names than [PAD], [UNK], [CLS], [SEP] and [MASK].
WordPieceOptions read_wordpiece_options(const std::string& folder);

class WordPiece {
 public:
  /// Reads a vocabulary with one token per line, numbered from 0: `path` itself, or vocab.txt in
  /// that folder, or the one in its tokenizer.json. If no options are given, the files beside the
  /// vocabulary decide. FileError names a token that comes twice, a special token that is missing,
  /// and an added token whose id is not the one that the tokenizer gives it.
  static WordPiece load(const std::string& path, std::optional<WordPieceOptions> options = {});

  /// From tokens in memory; errors call them `source`.
  WordPiece(std::vector<std::string> tokens, WordPieceOptions options,
            const std::string& source = "vocabulary");

  /// [CLS] text [SEP]. A special or added token written in the text, such as "[MASK]", is that
  /// token.
  Encoding encode(std::string_view text) const;

  /// [CLS] first [SEP] second [SEP]. Only the second is ever cut; ArgumentError if the first leaves
  /// no room for it.
  Encoding encode(std::string_view first, std::string_view second) const;

  /// The text of these words. Words are numbered as given, and the bytes of a token count within
  /// its word. A word of invisible characters only has no token.
  Encoding encode_words(const std::vector<std::string>& words) const;

  /// Of the vocabulary and the tokens added to it: the rows that a model's embedding needs.
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t id(std::string_view token) const;    ///< [UNK]'s for a token not in the vocabulary
  const std::string& token(int64_t id) const;  ///< ArgumentError unless 0 <= id < size()

  int64_t padding() const { return padding_; }
  int64_t unknown() const { return unknown_; }
  int64_t classification() const { return classification_; }
  int64_t separator() const { return separator_; }
  int64_t mask() const { return mask_; }

  const WordPieceOptions& options() const { return options_; }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  /// The sub-words that begin a word, or those that continue one, without their ##.
  struct Pieces {
    std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> ids;
    size_t longest = 0;  ///< in bytes
  };

  void read_vocabulary(const std::string& source);
  void take_added(const std::string& source);
  std::optional<int64_t> find_piece(std::string_view token) const;
  void add_text(std::string_view text, Encoding& to) const;
  void add_words(std::span<const Character> text, int64_t& word, Encoding& to) const;
  void add_word(std::span<const Character> text, int64_t word, Encoding& to) const;
  void fit(Encoding& encoding, int64_t kept, int64_t framing) const;
  void frame(Encoding& encoding, int64_t border, bool is_pair = false) const;

  std::vector<std::string> tokens_;
  WordPieceOptions options_;
  Pieces starts_, continuations_;
  std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> added_;
  /// The added tokens to be found in the text as it is, and in the cleaned text.
  std::shared_ptr<const wordpiece::AddedTokens> plain_, cleaned_;
  int64_t padding_, unknown_, classification_, separator_, mask_;
};

}  // namespace diffmask
