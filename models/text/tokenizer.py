"""Prompts as rows of token ids.

The whole tokenizer serialises to one JSON string, with which another program (the HTTP service)
can count the tokens of a prompt without this package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from models.checkpoints.files import read_json
from models.text.cleaning import clean
from models.text.vocabularies import Vocabulary, read_vocabulary
from models.text.wording import Piece, Wording

LENGTH = 77  # of a row, for every text encoder of the family


@dataclass(frozen=True)
class TokenRows:
    """Rows of `length` ids, and how strongly each position is meant; the frame counts as 1."""

    ids: list[list[int]]
    weights: list[list[float]]


@dataclass(frozen=True)
class Tokenizer:
    """Text -> rows of `length` token ids: start, as many tokens as fit, end, padding.

    learned: words of textual inversion, as first id -> how many ids in a row the word stands for.
    """

    vocabulary: Vocabulary
    length: int = LENGTH
    learned: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Reads a published tokenizer: tokenizer_config.json and the files of its class.

        Raises CheckpointError and UnsupportedConfig.
        """
        config = read_json(folder / "tokenizer_config.json")
        length = min(int(config.get("model_max_length") or LENGTH), LENGTH)
        return cls(read_vocabulary(folder, config), length)

    @property
    def chunk(self) -> int:
        """Tokens of text that fit one row."""
        return self.length - len(self._start) - 1

    def tokens(self, text: str) -> list[int]:
        """Ids of `text` without start, end and padding."""
        said = clean(text) if self.vocabulary.cleaned else text
        ids: list[int] = self.vocabulary.backend.encode(said, add_special_tokens=False).ids
        return [part for i in ids for part in range(i, i + self.learned.get(i, 1))]

    def rows(self, text: str, at_least: int = 1) -> list[list[int]]:
        """`text` cut into rows of `length` ids: one for every started `chunk`, or `at_least`."""
        return self.weighted_rows([(text, 1.0)], at_least).ids

    def weighted_rows(self, pieces: Iterable[Piece], at_least: int = 1) -> TokenRows:
        """One section of a prompt in rows; a word never spans two pieces."""
        tokens = [(i, weight) for text, weight in pieces for i in self.tokens(text)]
        count = max(at_least, -(-len(tokens) // self.chunk))
        chunks = [tokens[i * self.chunk : (i + 1) * self.chunk] for i in range(count)]
        return TokenRows(
            ids=[self._row([token for token, _ in chunk]) for chunk in chunks],
            weights=[self._weights([weight for _, weight in chunk]) for chunk in chunks],
        )

    def with_words(self, words: Mapping[str, int]) -> Self:
        """This tokenizer with more words, each of as many new ids as it says, in turn.

        A word may have other signs in it but stands alone, between spaces or signs; the ids after
        its first are spelled `word_1`, `word_2`, … Raises ValueError for a word that clashes.
        """
        if clashes := self.clashes(words):
            raise ValueError(f"the vocabulary has {', '.join(clashes.values())} already")
        backend = Backend.from_str(self.vocabulary.backend.to_str())
        learned = dict(self.learned)
        for word, count in words.items():
            learned[backend.get_vocab_size()] = count
            backend.add_tokens(
                [
                    AddedToken(text, single_word=True, normalized=False)
                    for text in self._spellings(word, count)
                ]
            )
        return replace(self, vocabulary=replace(self.vocabulary, backend=backend), learned=learned)

    def clashes(self, words: Mapping[str, int]) -> dict[str, str]:
        """Those of `words` that cannot be learned, with the token in their way: one of the
        vocabulary's, or of a word before them."""
        found: dict[str, str] = {}
        taken: set[str] = set()
        for word, count in words.items():
            spellings = self._spellings(word, count)
            known = (t for t in spellings if t in taken or self._knows(t))
            if (token := next(known, None)) is None:
                taken.update(spellings)
            else:
                found[word] = token
        return found

    def _knows(self, token: str) -> bool:
        return self.vocabulary.backend.token_to_id(token) is not None

    def _spellings(self, word: str, count: int) -> list[str]:
        said = clean(word) if self.vocabulary.cleaned else word
        return [said, *(f"{said}_{i}" for i in range(1, count))]

    def to_json(self, *others: Tokenizer) -> str:
        """All that counting takes: the serialised backend, and what is done before and after it,
        of this tokenizer and of those of the model's other text encoders."""
        return json.dumps(
            self._published() | {"others": [other._published() for other in others]},
            ensure_ascii=False,
        )

    def _published(self) -> dict[str, Any]:
        return {
            "backend": self.vocabulary.backend.to_str(),
            "cleaned": self.vocabulary.cleaned,
            "learned": {str(first): count for first, count in self.learned.items()},
        }

    def _row(self, ids: list[int]) -> list[int]:
        row = [*self._start, *ids, self.vocabulary.end_id]
        return row + [self.vocabulary.pad_id] * (self.length - len(row))

    def _weights(self, weights: list[float]) -> list[float]:
        row = [*(1.0 for _ in self._start), *weights]
        return row + [1.0] * (self.length - len(row))

    @property
    def _start(self) -> list[int]:
        start = self.vocabulary.start_id
        return [] if start is None else [start]


def aligned_rows(tokenizers: Sequence[Tokenizer], wording: Wording) -> list[TokenRows]:
    """The rows of `wording` by each tokenizer; a section has equally many of them in all."""
    by_tokenizer = [TokenRows([], []) for _ in tokenizers]
    for section in wording.sections:
        most = max(len(tokenizer.weighted_rows(section).ids) for tokenizer in tokenizers)
        for rows, tokenizer in zip(by_tokenizer, tokenizers, strict=True):
            more = tokenizer.weighted_rows(section, most)
            rows.ids.extend(more.ids)
            rows.weights.extend(more.weights)
    return by_tokenizer
