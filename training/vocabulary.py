"""Byte-pair vocabulary of the bundled model, in CLIP's format and files.

Lower-case, byte-level, `</w>` at the end of a word; `<|startoftext|>` and `<|endoftext|>` are the
last two ids, and the end token also pads, as in Stable Diffusion 1.x.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
MAX_TOKENS = 77

# CLIP's pattern: contractions, runs of letters, single digits, runs of anything else.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train(texts: Iterable[str], size: int) -> dict[str, str]:
    """Learn a vocabulary of exactly `size` entries and return the files' contents by name.

    Raises ValueError if `texts` are too short for that many entries.
    """
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # Every byte needs an entry, inside a word and at its end.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size,  # the word-end half of the alphabet later replaces the rarest of these
        end_of_word_suffix=WORD_END,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair) for pair in learned["merges"]]
    entries = [*alphabet, *(letter + WORD_END for letter in alphabet)]
    entries += list(dict.fromkeys("".join(pair) for pair in merges))
    entries = [*list(dict.fromkeys(entries))[: size - 2], START, END]
    if len(entries) != size:
        raise ValueError(f"the captions give {len(entries)} vocabulary entries, not {size}")
    known = set(entries)
    lines = [f"{a} {b}" for a, b in merges if {a, b, a + b} <= known]
    return {
        "vocab.json": json.dumps({entry: i for i, entry in enumerate(entries)}, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *lines]) + "\n",
    }


def save(files: dict[str, str], folder: Path) -> None:
    """Write the two files, and two more by which transformers recognises a CLIP tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, **special}
    extra = {
        "special_tokens_map.json": json.dumps(special, indent=2) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }
    for name, content in {**files, **extra}.items():
        (folder / name).write_text(content, encoding="utf-8")
