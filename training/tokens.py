"""Captions as token rows, ready to be drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from models.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class CaptionTokens:
    """`ids` (M, T) holds the captions of all drawings in turn; drawing i has `counts[i]` of them
    from `starts[i]` on. `empty` (T,) is the caption that says nothing.
    """

    ids: Tensor
    starts: Tensor
    counts: Tensor
    empty: Tensor

    @classmethod
    def encode(cls, tokenizer: Tokenizer, captions: list[list[str]]) -> Self:
        """One list of captions a drawing, each cut to one row of tokens."""
        counts = torch.tensor([len(texts) for texts in captions])
        rows = [tokenizer.rows(text)[0] for texts in captions for text in texts]
        return cls(
            ids=torch.tensor(rows),
            starts=counts.cumsum(0) - counts,
            counts=counts,
            empty=torch.tensor(tokenizer.rows("")[0]),
        )

    def draw(self, chosen: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
        """A random caption for each drawing of `chosen` (B,), empty with chance `dropout`: (B, T).

        The empty ones teach the unconditional model of classifier-free guidance
        (Ho and Salimans 2021).
        """
        which = torch.rand(len(chosen), generator=generator) * self.counts[chosen]
        ids = self.ids[self.starts[chosen] + which.long()]
        dropped = torch.rand(len(chosen), 1, generator=generator) < dropout
        return torch.where(dropped, self.empty, ids)
