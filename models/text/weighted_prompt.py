"""Weighted prompts: the text of a prompt and its weights, as conditioners take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

Piece = tuple[str, float]  # text and its weight; 1 leaves it unchanged


@dataclass(frozen=True)
class WeightedPrompt:
    """Sections of weighted text.

    Every section begins a new row of tokens; a section without text has no pieces.
    """

    sections: tuple[tuple[Piece, ...], ...]

    @classmethod
    def of(cls, prompt: str | Self) -> Self:
        """Return a prompt; the words of a string all have weight 1."""
        if isinstance(prompt, str):
            return cls((((prompt, 1.0),) if prompt else (),))
        return prompt

    @property
    def empty(self) -> bool:
        return not any(self.sections)

    @property
    def weighted(self) -> bool:
        """Return True if any piece has another weight than 1."""
        return any(weight != 1 for pieces in self.sections for _, weight in pieces)
