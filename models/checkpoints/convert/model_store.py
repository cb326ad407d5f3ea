"""The model store: a folder with everything that the operator has added, by kind and name.

models/<name>/            a folder in the diffusers layout, with manifest.json
controlnets/<name>/       config.json and weights, with manifest.json
vaes/<name>/, unets/<name>/    the same
loras/<name>.safetensors         with <name>.json, its manifest
embeddings/<name>.safetensors    the same
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.detect.kinds import Kind
from models.checkpoints.errors import CheckpointError, CheckpointMissing
from models.checkpoints.files import read_json

_FOLDERS: dict[Kind, str] = {
    "model": "models",
    "lora": "loras",
    "embedding": "embeddings",
    "controlnet": "controlnets",
    "vae": "vaes",
    "unet": "unets",
}
_FILES: tuple[Kind, ...] = ("lora", "embedding")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class ModelStore:
    """The folder `root`, which may be absent."""

    root: Path

    def path(self, kind: Kind, name: str) -> Path:
        """Return the file or folder for that name. Raises CheckpointError for an invalid name."""
        if not _NAME.fullmatch(name):
            raise CheckpointError(
                f"{name!r} is no name: letters, digits, dot, dash and underscore, 100 at most"
            )
        folder = self.root / _FOLDERS[kind]
        return folder / (f"{name}.safetensors" if kind in _FILES else name)

    def manifest(self, kind: Kind, name: str) -> Path:
        """Return the path of a manifest, which holds the source and the hash of each file."""
        path = self.path(kind, name)
        return path.with_suffix(".json") if kind in _FILES else path / "manifest.json"

    def find(self, kind: Kind, name: str) -> Path:
        """Return the existing path of that name. Raises CheckpointMissing, listing the names."""
        path = self.path(kind, name)
        if not path.exists():
            have = ", ".join(self.names(kind)) or "none"
            raise CheckpointMissing(f"no {kind} {name!r} has been added; there are: {have}")
        return path

    def find_any(self, name: str) -> list[Path]:
        """Return the existing paths of that name of every kind, a model first."""
        if not _NAME.fullmatch(name):
            return []
        return [path for kind in _FOLDERS if (path := self.path(kind, name)).exists()]

    def names(self, kind: Kind) -> list[str]:
        """Return the sorted names of a kind."""
        folder = self.root / _FOLDERS[kind]
        if not folder.is_dir():
            return []
        if kind in _FILES:
            return sorted(path.stem for path in folder.glob("*.safetensors"))
        return sorted(path.name for path in folder.iterdir() if _is_added(path))

    def read_manifest(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return the content of a manifest. Raises CheckpointError."""
        return read_json(self.manifest(kind, name))


def _is_added(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def default_name(source: str) -> str:
    """Return a valid name for `source`, a path or a hub id."""
    last = source.rstrip("/").rsplit("/", 1)[-1]
    stem = re.sub(r"\.(?:safetensors|ckpt|pt|pth|bin|pdparams)$", "", last)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:100] or "model"
