"""Byte-pair encoding of prompts as CLIP does it, in rows of 77 tokens.

Built from the published `vocab.json` and `merges.txt` with the `tokenizers` package. The whole
tokenizer serialises to one JSON string, with which another program (the HTTP service) can count
the tokens of a prompt without this package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

# Contractions, runs of letters, single digits, runs of other signs: the word pattern of CLIP
# (Radford et al. 2021, repository openai/CLIP, simple_tokenizer.py).
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Tokenizer:
    """Text -> rows of `length` token ids: start, at most `length` - 2 tokens, end, padding."""

    backend: Backend
    length: int
    start_id: int
    end_id: int
    pad_id: int

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Reads vocab.json, merges.txt and tokenizer_config.json of a published tokenizer."""
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        pad = _content(config.get("pad_token") or _END)
        backend = Backend(
            BPE.from_file(
                str(folder / "vocab.json"),
                str(folder / "merges.txt"),
                unk_token=_END,
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
                fuse_unk=False,
            )
        )
        backend.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        specials = dict.fromkeys([_START, _END, pad])
        backend.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
        vocabulary = backend.get_vocab(with_added_tokens=True)
        start, end, padding = (vocabulary[text] for text in (_START, _END, pad))
        return cls(backend, int(config.get("model_max_length", 77)), start, end, padding)

    @property
    def chunk(self) -> int:
        """Tokens of text that fit one row."""
        return self.length - 2

    def tokens(self, text: str) -> list[int]:
        """Ids of `text` without start, end and padding."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def rows(self, text: str, at_least: int = 1) -> list[list[int]]:
        """`text` cut into rows of `length` ids: one for every started `chunk`, or `at_least`."""
        ids = self.tokens(text)
        count = max(at_least, -(-len(ids) // self.chunk))
        return [self._row(ids[i * self.chunk : (i + 1) * self.chunk]) for i in range(count)]

    def _row(self, ids: list[int]) -> list[int]:
        row = [self.start_id, *ids, self.end_id]
        return row + [self.pad_id] * (self.length - len(row))

    def to_json(self) -> str:
        return str(self.backend.to_str())


def _content(token: str | dict[str, Any]) -> str:
    """The text of a special token, which files give as a string or as an object."""
    return token if isinstance(token, str) else str(token["content"])
