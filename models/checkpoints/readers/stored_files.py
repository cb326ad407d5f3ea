"""The tensors of a model's components, by the headers of their files: local or on the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.checkpoints.errors import CheckpointMissing
from models.checkpoints.files import SAFE, component_files, weight_files
from models.checkpoints.hub import fetch_configs, list_files, read_remote_header
from models.checkpoints.key_plan import Shape
from models.checkpoints.readers.headers import read_header

StoredTensors = Mapping[str, tuple[str, Shape]]  # key -> dtype as in safetensors, and shape


class StoredFiles(Protocol):
    """A model's small files in `folder`, and the headers of its weights."""

    @property
    def folder(self) -> Path: ...

    def tensors(self, component: str) -> StoredTensors:
        """Return the tensors of a component's files; "" for a network without a folder of its own.

        Raises CheckpointError.
        """


@dataclass(frozen=True)
class LocalFiles:
    """A folder in the diffusers layout."""

    folder: Path

    def tensors(self, component: str) -> StoredTensors:
        files = weight_files(self.folder / component, half=False)
        headers = [read_header(file) for file in files]
        return {key: (e.dtype, e.shape) for header in headers for key, e in header.entries.items()}


@dataclass(frozen=True)
class HubFiles:
    """A repository of the hub; only the headers of its weights are fetched."""

    repository: str
    folder: Path
    names: tuple[str, ...]

    def tensors(self, component: str) -> StoredTensors:
        folder = f"{component}/" if component else ""
        inside = {n.removeprefix(folder) for n in self.names if n.startswith(folder)}
        chosen = component_files(inside, half=False, suffixes=SAFE)
        weights = [name for name in chosen if name.endswith(SAFE)]
        if not weights:
            where = f" in {folder}" if component else ""
            raise CheckpointMissing(f"{self.repository} has no safetensors{where}")
        found: dict[str, tuple[str, Shape]] = {}
        for name in weights:
            found |= read_remote_header(self.repository, folder + name)
        return found


def hub_files(repository: str) -> LocalFiles | HubFiles:
    """Return the files of a repository; if the hub is not reachable, those in the cache.

    Raises CheckpointError.
    """
    names = list_files(repository)
    folder = fetch_configs(repository)
    return LocalFiles(folder) if names is None else HubFiles(repository, folder, tuple(names))
