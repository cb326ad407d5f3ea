"""What can be wrong with a LoRA file."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.checkpoints.checkpoint import CheckpointError

MOST_NAMED = 12  # keys that an error lists for each reason; the rest is counted


class LoraError(CheckpointError):
    """A LoRA file cannot be used with this model; the message says which keys and why."""


@dataclass
class Complaints:
    """All that is wrong with a file, told together."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, why: str, what: str) -> None:
        self.found.setdefault(why, []).append(what)

    def tell(self, name: str) -> None:
        """Raises LoraError if there is anything to complain of."""
        if self.found:
            parts = (f"{why}: {_listed(what)}" for why, what in self.found.items())
            raise LoraError(f"LoRA {name} does not fit: " + "; ".join(parts))


def _listed(what: list[str]) -> str:
    more = len(what) - MOST_NAMED
    return ", ".join(what[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
