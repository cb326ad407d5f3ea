"""Errors of checkpoints.

CheckpointError
├── CheckpointMissing     a folder, file or hub repository does not exist
├── CheckpointMismatch    a file does not fit its network; every key is named
├── UnknownFamily         the checkpoint is of no supported family
├── UnsupportedConfig     a configuration is damaged, or needs what is not implemented
└── Malformed             a file is damaged or hostile
    └── ForbiddenGlobal   a pickle refers to a function or class that is not allowed
"""

from __future__ import annotations

from dataclasses import dataclass


class CheckpointError(Exception):
    """A checkpoint cannot be loaded; the message names the part and the reason."""


class CheckpointMissing(CheckpointError):
    """A folder, file or hub repository does not exist."""


@dataclass
class CheckpointMismatch(CheckpointError):
    """A file does not fit its network. The message names every such key."""

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
    """A file is of no supported family."""


class UnsupportedConfig(CheckpointError):
    """A published configuration is damaged, or needs a computation that is not implemented."""


class Malformed(CheckpointError):
    """A file is damaged or hostile. Nothing of it was used."""


class ForbiddenGlobal(Malformed):
    """A pickle refers to a function or class that no checkpoint needs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {name}, which no checkpoint needs: refused, nothing was run")
        self.name = name
