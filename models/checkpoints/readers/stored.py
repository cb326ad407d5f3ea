"""What is stored of a model's components, by the headers of their files: here, or on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.checkpoints.errors import CheckpointMissing
from models.checkpoints.files import weight_files
from models.checkpoints.hub import SAFE, fetch_small, list_files, read_remote_header, rendering
from models.checkpoints.parts import Shape
from models.checkpoints.readers.headers import read_header

Stored = Mapping[str, tuple[str, Shape]]  # key -> dtype as safetensors names it, and shape


class StoredFiles(Protocol):
    """A model's small files in `folder`, and the headers of its weights."""

    @property
    def folder(self) -> Path: ...

    def stored(self, part: str) -> Stored:
        """What the files of the component `part` hold; "": of the only one there is. Raises
        CheckpointError."""


@dataclass(frozen=True)
class LocalFiles:
    """A folder in the published layout."""

    folder: Path

    def stored(self, part: str) -> Stored:
        files = weight_files(self.folder / part, half=False)
        headers = [read_header(file) for file in files]
        return {key: (e.dtype, e.shape) for header in headers for key, e in header.entries.items()}


@dataclass(frozen=True)
class HubFiles:
    """A repository of the hub, whose weights stay there."""

    repository: str
    folder: Path
    names: tuple[str, ...]

    def stored(self, part: str) -> Stored:
        folder = f"{part}/" if part else ""
        inside = {n.removeprefix(folder) for n in self.names if n.startswith(folder)}
        weights = [n for n in rendering(inside, half=False, suffixes=SAFE) if n.endswith(SAFE)]
        if not weights:
            where = f" in {folder}" if part else ""
            raise CheckpointMissing(f"{self.repository} has no safetensors{where}")
        found: dict[str, tuple[str, Shape]] = {}
        for name in weights:
            found |= read_remote_header(self.repository, folder + name)
        return found


def hub_files(repository: str) -> LocalFiles | HubFiles:
    """A repository's files; where the hub cannot be asked, those in the cache."""
    names = list_files(repository)
    folder = fetch_small(repository)
    return LocalFiles(folder) if names is None else HubFiles(repository, folder, tuple(names))
