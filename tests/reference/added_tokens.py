"""Writes what Hugging Face's tokenizers make of texts with added tokens.

    added_tokens.py > tests/zoo/data/added_tokens.json

    {"vocabulary", "settings": as wordpiece.py writes them, with a list `added` in each setting,
     "folders": [{"what", "files": {NAME: contents}, "cases": [{"text", "ids"}, ...]}, ...]}

The settings come from the tokenizers library alone, the folders' ids from transformers'
AutoTokenizer. What stands in a folder's file is what transformers 4 or 5 writes there.
"""

import json
import os
import random
import sys
import tempfile

from tokenizers import AddedToken
from transformers import AutoTokenizer, logging

from wordpiece import SETTINGS, SPECIAL, build, encode

logging.set_verbosity_error()
VOCABULARY = SPECIAL + "the film fine un ##aff ##able new ##er er café cafe [ ] ! - _ a b ##b 日 i".split()


def rules(content, special=False, **flags):
    names = ("normalized", "single_word", "lstrip", "rstrip")
    return {"content": content, "special": special,
            **{name: flags.get(name, name == "normalized" and not special) for name in names}}


ADDED = [
    [rules("new-token"), rules("[E1]"), rules("<x>", special=True), rules("film")],
    # One begins another; look alike once cleaned; hold what is cleaned away.
    [rules("NEW"), rules("new"), rules("newer"), rules("Café"), rules("a\u00adb", normalized=False),
     rules("[e]", special=True, normalized=True), rules("[E]")],
    [rules("<l>", lstrip=True), rules("<r>", rstrip=True), rules("<b>", lstrip=True, rstrip=True, special=True),
     rules("er", single_word=True), rules("日"), rules("_i_", single_word=True, normalized=False), rules(" a")],
    [{**rules("[MASK]", special=True), "lstrip": True}, rules("!!", lstrip=True, single_word=True), rules("un")],
]
TEXTS = ["", "the new-token film", "NEW-Tokennew-token", "the [E1][e1] <x> <X>film", "newer new newest NEW",
         "Café cafe\u0301 CAFÉ", "aa\u00adbb a\u00adb ab", "[E] [e] [[e]]", "the <l> \t<r>  <b> \u3000film",
         "<r> a <r> <l>", "er ers (er) er\u0301 erer ⓐer er\u200d", "日本 日", "_i_ __i_ i_i_", "the  [MASK] [MASK]",
         "! !! !!! a!!", "unaffable un-fine UN", "\x07<l>\x07 \x0b<l>\x85<b>\x0c a"]


def settings():
    rng = random.Random(1)
    for setting in SETTINGS:
        for added in ADDED:
            tokenizer = build(VOCABULARY, **setting)
            overridden = [token["content"] for token in added]
            if "[MASK]" in overridden:  # the rules of a token cannot be changed once it is added
                tokenizer = build(VOCABULARY, **setting, special=[t for t in SPECIAL if t not in overridden])
            tokenizer.add_tokens([AddedToken(**token) for token in added])
            texts = list(TEXTS)
            pieces = overridden + [t.upper() for t in overridden] + ["the", "film", " ", "  ", "\t", "a", "!", "é"]
            texts += ["".join(rng.choice(pieces) for _ in range(rng.randrange(1, 9))) for _ in range(40)]
            cases = [encode(tokenizer, 64, text.encode("utf-8")) for text in texts]
            cases.append(encode(tokenizer, 64, b"new-token <l> a", "<r> [E1]"))
            cases.append(encode(tokenizer, 64, b"", listed=["new-token", " <l> film", "er", "[E1]a"]))
            yield {**setting, "longest": 64, "added": added, "cases": cases}


def saved(version, added=(), special=(), change=None):
    """The files that transformers writes for a tokenizer; those of version 4 in its older layouts."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
            file.write("\n".join(VOCABULARY) + "\n")
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump({"model_type": "bert"}, file)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens([AddedToken(**token) for token in added])
        if special:
            tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
        with tempfile.TemporaryDirectory() as out:
            tokenizer.save_pretrained(out)
            files = {}
            for name in sorted(os.listdir(out)):
                with open(os.path.join(out, name), encoding="utf-8") as file:
                    files[name] = json.load(file)
    listed = files["tokenizer.json"]["added_tokens"]
    config = files["tokenizer_config.json"]
    vocabulary = "\n".join(VOCABULARY) + "\n"
    if version == 4:  # before version 5, the table of added tokens stood in the configuration
        config["added_tokens_decoder"] = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in listed}
        config["additional_special_tokens"] = config.pop("extra_special_tokens", [])
        files["vocab.txt"] = vocabulary
    if version == 3:  # and before that in a file of its own; without tokenizer.json
        new = [t for t in listed if t["id"] >= len(VOCABULARY)]
        files = {"vocab.txt": vocabulary, "added_tokens.json": {t["content"]: t["id"] for t in new},
                 "special_tokens_map.json": {
                     "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
                     "mask_token": {**rules("[MASK]", normalized=True), "lstrip": True},
                     "additional_special_tokens": list(special)},
                 "tokenizer_config.json": {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}}
        files["special_tokens_map.json"]["mask_token"].pop("special")
    if change:
        change(files)
    return files


def read_back(what, files):
    with tempfile.TemporaryDirectory() as folder:
        for name, contents in {**files, "config.json": {"model_type": "bert"}}.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(contents if isinstance(contents, str) else json.dumps(contents))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        cases = [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in TEXTS]
        return {"what": what, "files": files, "size": len(tokenizer), "cases": cases}


def folders():
    added = [rules("new-token"), rules("[E1]"), rules("<l>", lstrip=True), rules("er", single_word=True)]
    special = ["<x>", "[e]"]
    for version in (5, 4, 3):
        yield read_back(f"version {version}", saved(version, added, special))

    def only_names(files):
        del files["added_tokens.json"]

    def new_in_config(files):
        files["tokenizer_config.json"]["extra_special_tokens"] = ["<x>", "!!"]
        files["tokenizer_config.json"]["bos_token"] = "<b>"

    yield read_back("special tokens without ids", saved(3, (), special, only_names))
    yield read_back("special tokens of the configuration only", saved(5, added, (), new_in_config))


def main():
    json.dump({"vocabulary": VOCABULARY, "settings": list(settings()), "folders": list(folders())},
              sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
