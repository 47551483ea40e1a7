"""Writes what Hugging Face's tokenizers library makes of texts, to test WordPiece against.

    wordpiece.py > tests/zoo/data/wordpiece.json
    wordpiece.py FOLDER VOCABULARY [TEXTS ...]

Without arguments: the hard texts below under several settings, with the small vocabulary below.
With them, FOLDER gets a copy of the VOCABULARY as vocab.txt, and wordpiece.json holds for it: the
same hard texts; every Unicode character by itself and between letters; strings of random
characters, and of random bytes; and each line of the TEXTS: Penn Treebank trees where a line begins
with "(", else what follows the last tab. DIFFMASK_WORDPIECE names the folder to the test.

    {"vocabulary": [TOKEN, ...],
     "settings": [{"lowercase", "strip_accents", "chinese_characters", "longest",
                   "cases": [{"text", "second", "listed", "hex", "ids", "words", "begins", "ends",
                              "invalid", "cut"}, ...]}, ...]}

A case has one of `text`, `hex` (bytes that are not UTF-8) and `listed` (words given one by one),
and maybe `second`. `words` and the bytes' `begins` and `ends` are -1, 0 and 0 for special tokens.
`invalid` and `cut` are left out where they are 0.
"""

import codecs
import json
import os
import random
import re
import shutil
import sys

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDE0123456789"
OTHERS = "éàßİıἀσςΣφиМ日本語한ᄒ\u1161\u11abあ\u0301\u0307!?.,'-#[]()`$+…—«😀❤\ufe0f¿\u0378\u1df6⸻"
SMALL = (SPECIAL + list(LETTERS + OTHERS) + ["##" + c for c in LETTERS + OTHERS]
         + "the film fine un ##aff ##able cafe café naive strasse ##ing ## [unused1]".split())

HARD = [
    "", " ", "\t\r\n", "the film", "The FILM, unaffable!", "don't stop--it's fine...", "a_b #1 ##ing",
    # Accents, composed, decomposed, stacked, reordered, in front, and marks that are not accents.
    "café CAFÉ cafe\u0301", "e\u0301\u0301te\u0301", "\u0301a", " \u0301 ", "a\u0323\u0307b a\u0307\u0323b",
    "a\u0903b", "a\u20ddb", "ἄἀ", "ẛ̣", "naïve Ångström ÅÅ", "\u1734a\u1734", "a\u302e\u302fb\u302f\u302e",
    # Letters whose lower case is special.
    "İstanbul Iı ISPARTA", "Straße STRASSE ẞ", "ΣΊΣΥΦΟΣ φως ς", "ǅ Ǆ ŉ", "ﬁlm ﬀ", "Ꭰꭰ Ა",
    # Chinese and its neighbours.
    "日本語", "a日b本", "日 本", "한국어 한", "あア、。", "\uf900\ufa0e", "\U00020000a", "\U0002ceb0a",
    # Emoji and joiners.
    "so😀so", "❤️ ❤", "👨\u200d👩\u200d👧", "🏳️\u200d🌈!", "🇩🇪",
    # Characters without a look.
    "a\0b", "a\x07b\x7f", "a\u00adb", "a\u200bb", "\ufeffthe", "a\u2060b", "a\u0085b", "a\x0bb\x0cc", "a\u180eb",
    "a\u00a0b", "a\u2003b\u3000c", "a\u2028b\u2029c", "a\ufffdb", "\ue000a", "a\U000e0041b", "a\u0378b",
    "\u200e\u200f", "a\u0600b", "\ufffe\uffff\U0010ffff",
    # Punctuation, and what only looks like it.
    "«a»—b…", "¿a?", "$5+3=8^~|<>`", "a·b‿c", "a\u166db", "a\U000111c9b", "a⸻b", "\u037e\u1fef≠",
    # Special tokens in the text.
    "[SEP]", "a[SEP]b", "the [MASK] film", "[mask] [cls]", "[CLS][SEP][PAD][UNK][MASK]", "[[SEP]]", "[SEP",
    "[MA\u00adSK]", "[unused1]", "é[MASK]é",
    # Words that the vocabulary cannot make, and long ones.
    "☃", "a☃ a", "xyz☃", "a" * 100, "a" * 101, "é" * 100, "e\u0301" * 101, "!" * 120, "日" * 120, "한" * 34,
]
BYTES = [b"caf\xe9 noir", b"ab\xc3", b"\xc0\xaf", b"a\xed\xa0\x80b", b"\x80\x80a", b"\xe2\x82a", b"\xf0\x9f\x98a",
         b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80a", b"\xff\xfe", b"a\xef\xbf\xbd\xffb", b"\xc3\xa9\xc3[SEP]\xa9"]
PAIRS = [("the film", "is fine."), ("", "fine"), ("fine", ""), ("", ""), ("é[SEP]", "日 the"), ("a " * 6, "b c " * 9)]
LISTED = [["the", "film's", "", "un-fine", "\u00ad", "日本"], [], ["a b", "[MASK]", "é"]]

SETTINGS = [
    dict(lowercase=True, strip_accents=None, chinese_characters=True),
    dict(lowercase=False, strip_accents=None, chinese_characters=True),
    dict(lowercase=True, strip_accents=False, chinese_characters=False),
    dict(lowercase=False, strip_accents=True, chinese_characters=True),
]


UNLIMITED = 1 << 20


def build(vocabulary, lowercase, strip_accents, chinese_characters, special=SPECIAL):
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese_characters, strip_accents=strip_accents,
        lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def decode(data):
    """The text of some bytes, where each of its characters begins, and the number of bad ones."""
    bad = {}

    def replace(error):
        bad[error.start] = error.end
        return "\ufffd", error.end

    codecs.register_error("counted", replace)
    text = data.decode("utf-8", "counted")
    starts = [0]
    for character in text:
        at = starts[-1]
        starts.append(bad.get(at, at + len(character.encode("utf-8"))))
    return text, starts, len(bad)


def encode(tokenizer, longest, first, second=None, listed=None):
    """What the tokenizer makes of a text (as bytes), maybe of a pair, or of a list of words."""
    case = {}
    if listed is not None:
        case["listed"] = listed
        arguments, starts = dict(sequence=listed, is_pretokenized=True), None
    else:
        text, starts, bad = decode(first)
        case.update({"hex": first.hex(), "invalid": bad} if bad else {"text": text})
        arguments = dict(sequence=text)
        if second is not None:
            case["second"] = second
            arguments["pair"] = second
    tokenizer.no_truncation()
    full = tokenizer.encode(**arguments)
    tokenizer.enable_truncation(
        longest, strategy="longest_first" if second is None else "only_second")
    encoding = tokenizer.encode(**arguments)
    if len(encoding) < len(full):
        case["cut"] = len(full) - len(encoding)

    case["ids"] = encoding.ids
    case["words"] = [-1 if word is None else word for word in encoding.word_ids]
    begins, ends = [], []
    for word, sequence, (begin, end) in zip(case["words"], encoding.sequence_ids, encoding.offsets):
        if word < 0:
            table = [0]
        elif listed is not None:
            table = decode(listed[word].encode("utf-8"))[1]
        else:
            table = decode(second.encode("utf-8"))[1] if sequence == 1 else starts
        begins.append(table[begin])
        ends.append(table[end])
    return {**case, "begins": begins, "ends": ends}


def hard_cases(tokenizer, longest):
    for text in HARD:
        yield encode(tokenizer, longest, text.encode("utf-8"))
    for data in BYTES:
        yield encode(tokenizer, longest, data)
    for first, second in PAIRS:
        yield encode(tokenizer, longest, first.encode("utf-8"), second)
    for listed in LISTED:
        yield encode(tokenizer, longest, b"", listed=listed)


def character_cases(tokenizer, longest):
    for begin in range(0, 0x110000, 64):
        block = [chr(code) for code in range(begin, begin + 64) if not 0xD800 <= code < 0xE000]
        text = "".join(f"{character} a{character}b " for character in block)
        if block:
            yield encode(tokenizer, longest, text.encode("utf-8"))


def random_cases(tokenizer, longest, count):
    rng = random.Random(0)
    # Where marks that stay change places with accents, the reference takes one's place for the
    # other's. Ours does not, so such marks are tested by themselves.
    hard = "".join(HARD).replace("\u302e", "").replace("\u302f", "")
    for _ in range(count):
        characters = [rng.choice(hard) if rng.random() < 0.8 else
                      chr(rng.choice([rng.randrange(0x20, 0x3000), rng.randrange(0x10000, 0x20000)]))
                      for _ in range(rng.randrange(1, 40))]
        yield encode(tokenizer, longest, "".join(characters).encode("utf-8"))
        data = bytes(rng.choice([rng.randrange(256), rng.choice(b"\xe2\x82\xac\xf0\x9f\x98\x80\xc3 a")])
                     for _ in range(rng.randrange(1, 24)))
        yield encode(tokenizer, longest, data)


def lines(paths):
    escapes = {"-LRB-": "(", "-RRB-": ")", r"\/": "/", r"\*": "*"}
    for path in paths:
        with open(path, "rb") as file:
            for line in file.read().splitlines():
                if line.startswith(b"("):
                    words = re.findall(r"\(\d ([^()]+)\)", line.decode("utf-8"))
                    text = " ".join(re.sub(r"-[LR]RB-|\\[/*]", lambda m: escapes[m[0]], word)
                                    for word in words)
                    yield text.encode("utf-8")
                else:
                    yield line.split(b"\t")[-1]


def main():
    if len(sys.argv) == 1:
        settings = []
        for setting in SETTINGS:
            cases = list(hard_cases(build(SMALL, **setting), 24))
            settings.append({**setting, "longest": 24, "cases": cases})
        json.dump({"vocabulary": SMALL, "settings": settings}, sys.stdout, separators=(",", ":"))
        print()
        return
    folder, vocabulary, *paths = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    shutil.copy(vocabulary, os.path.join(folder, "vocab.txt"))
    with open(vocabulary, encoding="utf-8", newline="\n") as file:
        vocabulary = file.read().removesuffix("\n").split("\n")
    settings = []
    for setting in SETTINGS:
        tokenizer = build(vocabulary, **setting)
        cases = list(hard_cases(tokenizer, UNLIMITED)) + list(character_cases(tokenizer, UNLIMITED))
        cases += random_cases(tokenizer, UNLIMITED, 5000)
        if setting == SETTINGS[0]:
            cases += [encode(tokenizer, UNLIMITED, text.encode("utf-8"))
                      for text in ("a" * 100000, "the" * 40000, "é" * 100000, "! " * 50000, "日" * 100000)]
        if setting in SETTINGS[:2]:
            cases += [encode(tokenizer, UNLIMITED, text) for text in lines(paths)]
        settings.append({**setting, "longest": UNLIMITED, "cases": cases})
        print(len(cases), "cases", setting, file=sys.stderr)
    with open(os.path.join(folder, "wordpiece.json"), "w", encoding="ascii") as file:
        json.dump({"vocabulary": vocabulary, "settings": settings}, file, separators=(",", ":"))


if __name__ == "__main__":
    main()
