"""CLIP's tokenizer for single files, which hold weights only.

It is bundled (see `data/LICENSES.md`), so that a single file loads without a network.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

_MERGES = Path(__file__).parent / "data" / "clip_merges.txt.gz"
START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def _merges() -> str:
    return gzip.decompress(_MERGES.read_bytes()).decode("utf-8")


def vocabulary() -> dict[str, int]:
    """Return CLIP's tokens and ids: bytes, bytes that end a word, merges, start and end."""
    # A printable byte is its own letter; the others are the letters from U+0100 on.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(code) for code in [*printable, *range(0x100, 0x100 + 256 - len(printable))]]
    merged = ["".join(line.split()) for line in _merges().splitlines()[1:]]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *merged, START, END]
    return {token: number for number, token in enumerate(tokens)}


@cache
def _vocabulary_json() -> str:
    return json.dumps(vocabulary(), ensure_ascii=False)


def write_clip_tokenizer(folder: Path, *, pad: str = END) -> None:
    """Write the files of a published `tokenizer/`. pad: the padding token, "!" in SDXL's second."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "merges.txt").write_text(_merges(), "utf-8")
    (folder / "vocab.json").write_text(_vocabulary_json(), "utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", "utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
