"""What can be wrong with a checkpoint.

CheckpointError
├── CheckpointMissing     a folder, file or hub repository is not there
├── CheckpointMismatch    a file does not fit its network; every key is named
├── UnknownFamily         none of the kinds of checkpoint this code knows
└── Malformed             a file is damaged, or made to do harm
    └── ForbiddenGlobal   a pickle asked for something it may not have
"""

from __future__ import annotations

from dataclasses import dataclass


class CheckpointError(Exception):
    """A checkpoint cannot be loaded; the message says which part and why."""


class CheckpointMissing(CheckpointError):
    """A folder, file or hub repository is not there."""


@dataclass
class CheckpointMismatch(CheckpointError):
    """A file does not fit its network. Every offending key is named."""

    source: str
    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]

    def __str__(self) -> str:
        kinds = ("missing", "unexpected", "misshapen")
        parts = [f"{kind}: {', '.join(getattr(self, kind))}" for kind in kinds]
        found = [part for kind, part in zip(kinds, parts, strict=True) if getattr(self, kind)]
        return f"{self.source} does not fit its configuration; " + "; ".join(found)


class UnknownFamily(CheckpointError):
    """A file is no checkpoint of a family that this code knows."""


class Malformed(CheckpointError):
    """A file is not what its name says: damaged, or made to do harm. Nothing of it was used."""


class ForbiddenGlobal(Malformed):
    """A pickle asks for a function or class that no checkpoint needs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {name}, which no checkpoint needs: refused, nothing was run")
        self.name = name


class UnsupportedConfig(ValueError):
    """A published configuration asks for something this code cannot compute."""
