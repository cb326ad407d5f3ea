"""Errors of LoRA files."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.checkpoints.checkpoint import CheckpointError

MAX_LISTED = 12  # keys in the message for each reason; the rest is counted


class LoraError(CheckpointError):
    """A LoRA file cannot be used with this model; the message names the keys and the reasons.

    reason: the message without the name of the file.
    """

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(reason if name is None else f"LoRA {name} {reason}")
        self.reason = reason


@dataclass
class Problems:
    """All problems of a file, by reason, for one error."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, key: str) -> None:
        self.found.setdefault(reason, []).append(key)

    def raise_if_any(self, name: str) -> None:
        """Raise a LoraError for the file `name` if there are problems."""
        if self.found:
            parts = (f"{reason}: {_listed(keys)}" for reason, keys in self.found.items())
            raise LoraError("does not fit: " + "; ".join(parts), name)


def _listed(keys: list[str]) -> str:
    more = len(keys) - MAX_LISTED
    return ", ".join(keys[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
