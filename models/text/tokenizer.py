"""Tokenizer: prompts to rows of token ids.

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

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import read_json
from models.text.cleaning import clean
from models.text.vocabularies import Vocabulary, read_vocabulary
from models.text.weighted_prompt import Piece, WeightedPrompt

LENGTH = 77  # of a row, for every text encoder of the family
_LEAST_LENGTH = 3  # start, one token, end


@dataclass(frozen=True)
class TokenRows:
    """Rows of `length` ids, and the weight of each position; special tokens and padding have 1."""

    ids: list[list[int]]
    weights: list[list[float]]


@dataclass(frozen=True)
class Tokenizer:
    """Text -> rows of `length` token ids: start, as many tokens as fit, end, padding.

    learned: textual inversion embeddings, as first id -> number of consecutive ids of the
    embedding.
    """

    vocabulary: Vocabulary
    length: int = LENGTH
    learned: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read a published tokenizer: tokenizer_config.json and the files of its class.

        Raises CheckpointError.
        """
        config = read_json(folder / "tokenizer_config.json")
        return cls(read_vocabulary(folder, config), _row_length(folder, config))

    @property
    def chunk(self) -> int:
        """Return the number of text tokens that fit one row."""
        return self.length - len(self._start) - 1

    def tokens(self, text: str) -> list[int]:
        """Return the ids of `text` without start, end and padding."""
        return [part for word in self._words(text) for part in word]

    def _words(self, text: str) -> list[range]:
        """Return the ids of `text`, those of a learned word together."""
        ids: list[int] = self.vocabulary.backend.encode(
            self._cleaned(text), add_special_tokens=False
        ).ids
        return [range(i, i + self.learned.get(i, 1)) for i in ids]

    def rows(self, text: str, at_least: int = 1) -> list[list[int]]:
        """Cut `text` into rows of `length` ids: one for every started `chunk`, or `at_least`.

        A learned word is not cut.
        """
        return self.weighted_rows([(text, 1.0)], at_least).ids

    def weighted_rows(self, pieces: Iterable[Piece], at_least: int = 1) -> TokenRows:
        """Return one section of a prompt in rows; a word never spans two pieces.

        A learned word that does not fit into the rest of its row begins the next.
        """
        chunks: list[list[tuple[int, float]]] = [[]]
        for text, weight in pieces:
            for word in self._words(text):
                if len(chunks[-1]) + len(word) > self.chunk:
                    chunks.append([])
                chunks[-1] += ((number, weight) for number in word)
        chunks += ([] for _ in range(at_least - len(chunks)))
        return TokenRows(
            ids=[self._row([token for token, _ in chunk]) for chunk in chunks],
            weights=[self._weights([weight for _, weight in chunk]) for chunk in chunks],
        )

    def check_rows(self, rows: int) -> None:
        """Raise CheckpointError for an added token that a text encoder has no row for.

        rows: of the encoder's embedding.
        """
        for token, number in self.vocabulary.added.items():
            if number >= rows:
                raise CheckpointError(
                    f"the added token {token!r} has the id {number}, but the text encoder has "
                    f"{rows} rows"
                )

    def with_tokens(self, words: Mapping[str, int], rows: int | None = None) -> Self:
        """Return this tokenizer with more words, each of the given number of consecutive new ids.

        A word may contain punctuation but matches only between spaces or punctuation. The ids after
        its first are spelled `word_1`, `word_2`, … rows: of the text encoder, which may have more
        than there are tokens; the new ids come after them. Raises ValueError for a word that
        conflicts.
        """
        if conflicts := self.conflicts(words):
            raise ValueError(f"the vocabulary has {', '.join(conflicts.values())} already")
        backend = Backend.from_str(self.vocabulary.backend.to_str())
        unused = range(backend.get_vocab_size(), rows or 0)
        backend.add_tokens([AddedToken(f"\0{number}", normalized=False) for number in unused])
        learned = dict(self.learned)
        for word, count in words.items():
            learned[backend.get_vocab_size()] = count
            backend.add_tokens(
                [
                    AddedToken(text, single_word=True, normalized=self.vocabulary.lower_cased)
                    for text in self._spellings(word, count)
                ]
            )
        return replace(self, vocabulary=replace(self.vocabulary, backend=backend), learned=learned)

    def reads(self, word: str) -> bool:
        """Return True if `word` in a text gives the ids that `with_tokens` added for it."""
        ids = self.tokens(word)
        return bool(ids) and self.learned.get(ids[0]) == len(ids)

    def conflicts(self, words: Mapping[str, int]) -> dict[str, str]:
        """Return those of `words` that cannot be added, with the existing token that conflicts.

        That token is of the vocabulary or of a word before.
        """
        found: dict[str, str] = {}
        taken: set[str] = set()
        for word, count in words.items():
            spellings = self._spellings(word, count)
            known = (t for t in spellings if t in taken or self._has(t))
            if (token := next(known, None)) is None:
                taken.update(spellings)
            else:
                found[word] = token
        return found

    def _has(self, token: str) -> bool:
        added = {text.lower() for text in self.vocabulary.added}
        return self.vocabulary.backend.token_to_id(token) is not None or token.lower() in added

    def _spellings(self, word: str, count: int) -> list[str]:
        first = word.lower() if self.vocabulary.lower_cased else self._cleaned(word)
        return [first, *(f"{first}_{i}" for i in range(1, count))]

    def _cleaned(self, text: str) -> str:
        return clean(text) if self.vocabulary.cleaned else text

    def to_json(self, *others: Tokenizer) -> str:
        """Serialise everything that counting tokens needs.

        That is the backend and the steps before and after it, of this tokenizer and of `others`,
        those of the model's other text encoders.
        """
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


def _row_length(folder: Path, config: Mapping[str, Any]) -> int:
    """Return the tokens of a row: those of the configuration, or `LENGTH` if it states more."""
    stated = config.get("model_max_length")
    if stated is None:
        return LENGTH
    if not isinstance(stated, int | float) or not stated >= _LEAST_LENGTH:
        raise CheckpointError(
            f"{folder}: model_max_length is {stated!r}, not {_LEAST_LENGTH} or more"
        )
    return int(min(stated, LENGTH))


def align_rows(tokenizers: Sequence[Tokenizer], prompt: WeightedPrompt) -> list[TokenRows]:
    """Return the rows of `prompt` by each tokenizer, for every section the same number in all."""
    by_tokenizer = [TokenRows([], []) for _ in tokenizers]
    for section in prompt.sections:
        most = max(len(tokenizer.weighted_rows(section).ids) for tokenizer in tokenizers)
        for rows, tokenizer in zip(by_tokenizer, tokenizers, strict=True):
            more = tokenizer.weighted_rows(section, most)
            rows.ids.extend(more.ids)
            rows.weights.extend(more.weights)
    return by_tokenizer
