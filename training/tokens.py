"""Captions as rows of token ids, for random sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from models.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class CaptionTokens:
    """Token ids of all captions.

    `ids` (M, T) holds the captions of all images in order; image i has `counts[i]` rows that begin
    at `starts[i]`. `empty` (T,) is the row of the empty caption.
    """

    ids: Tensor
    starts: Tensor
    counts: Tensor
    empty: Tensor

    @classmethod
    def encode(cls, tokenizer: Tokenizer, captions: list[list[str]]) -> Self:
        """Encode a list of captions for each image, each truncated to one row of tokens."""
        counts = torch.tensor([len(texts) for texts in captions])
        rows = [tokenizer.rows(text)[0] for texts in captions for text in texts]
        return cls(
            ids=torch.tensor(rows),
            starts=counts.cumsum(0) - counts,
            counts=counts,
            empty=torch.tensor(tokenizer.rows("")[0]),
        )

    def sample(self, chosen: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """Return a random caption (B, T) for each image of `chosen` (B,), mostly an early one.

        A caption is empty with probability `dropout`; empty captions train the unconditional model
        of classifier-free guidance (Ho and Salimans 2021).
        """
        which = torch.rand(len(chosen), generator=generator) ** 2 * self.counts[chosen]
        ids = self.ids[self.starts[chosen] + which.long()]
        dropped = torch.rand(len(chosen), 1, generator=generator) < dropout
        return torch.where(dropped, self.empty, ids)
