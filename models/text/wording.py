"""What a prompt says and how strongly, as a conditioner reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

Piece = tuple[str, float]  # text and its weight; 1 is as it stands


@dataclass(frozen=True)
class Wording:
    """Sections begin rows of tokens of their own; a section without text has no pieces."""

    sections: tuple[tuple[Piece, ...], ...]

    @classmethod
    def of(cls, said: str | Self) -> Self:
        """A string says all its words alike."""
        if isinstance(said, str):
            return cls((((said, 1.0),) if said else (),))
        return said

    @property
    def empty(self) -> bool:
        return not any(self.sections)

    @property
    def weighted(self) -> bool:
        """Whether anything is meant more or less strongly than it stands."""
        return any(weight != 1 for pieces in self.sections for _, weight in pieces)
