#pragma once
/// \file
/// BERT's tokenizer: texts as numbers of sub-words, each of which knows where it stands.
///
///     text -> special tokens written in it | cleaned, lower case, without accents
///          -> words (between white space; a punctuation mark or Chinese character is one)
///          -> the longest sub-word of the vocabulary, again and again; [UNK] where there is none
///
/// Devlin et al.: "BERT: Pre-training of deep bidirectional transformers", NAACL 2019; WordPiece:
/// Wu et al., arXiv 1609.08144. Ids, offsets and word numbers are those of Hugging Face's
/// BertTokenizerFast (tests/reference/wordpiece.py), but that offsets count bytes here, not
/// characters, and that letters newer than the installed utf8proc have no lower case.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace diffmask {

namespace wordpiece {
struct Letter;
}

struct WordPieceOptions {
  enum class Overflow { truncate, error };

  bool lowercase = true;
  std::optional<bool> strip_accents = {};  ///< unless said, as lowercase
  bool chinese_characters = true;          ///< each is a word of its own
  int64_t longest = 512;                   ///< >= 3: positions, special tokens included
  Overflow overflow = Overflow::truncate;  ///< what to do with longer texts

  void validate() const;
};

/// Half-open range of bytes in a UTF-8 text.
struct ByteSpan {
  int64_t begin = 0, end = 0;
  bool operator==(const ByteSpan&) const = default;
};

/// The tokens of a text, or of two. Shape: ids, types, words, bytes (T).
struct Encoding {
  std::vector<int64_t> ids;
  std::vector<int64_t> types;  ///< 0, and 1 from the second text on
  /// The word, from 0 in each text, that a token belongs to; -1 for those that frame the texts.
  std::vector<int64_t> words;
  /// Where the token stands in the original text, before any cleaning; (0, 0) for those that frame
  /// the texts.
  std::vector<ByteSpan> bytes;
  int64_t invalid = 0;  ///< byte sequences that were not UTF-8, read as U+FFFD and left out
  int64_t cut = 0;      ///< tokens left out because the text was too long

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
};

/// What the files of a Hugging Face folder say: tokenizer.json, then tokenizer_config.json over it;
/// the defaults where neither is there. FileError for a tokenizer of another kind.
WordPieceOptions read_wordpiece_options(const std::string& folder);

class WordPiece {
 public:
  /// Reads a vocabulary of one token a line, numbered from 0: `path` itself, or vocab.txt in that
  /// folder, or the one in its tokenizer.json. Unless given, the options are what the files beside
  /// the vocabulary say. FileError names a token that is there twice, and a special token that is
  /// missing.
  static WordPiece load(const std::string& path, std::optional<WordPieceOptions> options = {});

  /// The same from tokens in memory; `source` is what errors call them.
  WordPiece(std::vector<std::string> tokens, WordPieceOptions options,
            const std::string& source = "vocabulary");

  /// [CLS] text [SEP]. A special token that the text itself holds, as "[MASK]", is that token.
  Encoding encode(std::string_view text) const;

  /// [CLS] first [SEP] second [SEP]; only the second is ever cut. ArgumentError where the first
  /// leaves no room for it.
  Encoding encode(std::string_view first, std::string_view second) const;

  /// As the text of these words, but words are numbered as given, and the bytes of a token are
  /// counted within its word. A word of nothing but invisible characters has no token.
  Encoding encode_words(const std::vector<std::string>& words) const;

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t id(std::string_view token) const;    ///< that of [UNK] for a token that is not there
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
  /// Sub-words at the same place of a word, without the ## of those that continue it.
  struct Pieces {
    std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> ids;
    size_t longest = 0;  ///< in bytes
  };

  void add_text(std::string_view text, Encoding& to) const;
  void add_part(std::string_view text, int64_t offset, int64_t& word, Encoding& to) const;
  void add_word(const wordpiece::Letter* begin, const wordpiece::Letter* end, int64_t word,
                Encoding& to) const;
  void fit(Encoding& encoding, int64_t kept, int64_t framing) const;
  void frame(Encoding& encoding, int64_t border, bool is_pair = false) const;

  std::vector<std::string> tokens_;
  WordPieceOptions options_;
  Pieces starts_, continuations_;
  int64_t padding_, unknown_, classification_, separator_, mask_;
};

}  // namespace diffmask
