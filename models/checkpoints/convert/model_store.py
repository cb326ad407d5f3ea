"""The models home: what the operator has added, by kind and name. Nothing else can be asked for.

models/<name>/            a folder in the published layout, with manifest.json
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
class ModelsHome:
    """The folder `root`; it need not be there."""

    root: Path

    def place(self, kind: Kind, name: str) -> Path:
        """Where the thing of that name is, or would be: a file or a folder."""
        if not _NAME.fullmatch(name):
            raise CheckpointError(
                f"{name!r} is no name: letters, digits, dot, dash and underscore, 100 at most"
            )
        below = self.root / _FOLDERS[kind]
        return below / (f"{name}.safetensors" if kind in _FILES else name)

    def manifest(self, kind: Kind, name: str) -> Path:
        """Where its manifest is: where it came from and the hashes of its files."""
        place = self.place(kind, name)
        return place.with_suffix(".json") if kind in _FILES else place / "manifest.json"

    def find(self, kind: Kind, name: str) -> Path:
        """The thing of that name. Raises CheckpointMissing, naming those there are."""
        place = self.place(kind, name)
        if not place.exists():
            have = ", ".join(self.names(kind)) or "none"
            raise CheckpointMissing(f"no {kind} {name!r} has been added; there are: {have}")
        return place

    def places(self, name: str) -> list[Path]:
        """Where things of that name are, of whatever kind; a model first."""
        if not _NAME.fullmatch(name):
            return []
        return [place for kind in _FOLDERS if (place := self.place(kind, name)).exists()]

    def names(self, kind: Kind) -> list[str]:
        """What has been added of a kind, in order."""
        below = self.root / _FOLDERS[kind]
        if not below.is_dir():
            return []
        if kind in _FILES:
            return sorted(path.stem for path in below.glob("*.safetensors"))
        return sorted(path.name for path in below.iterdir() if _is_added(path))

    def describe(self, kind: Kind, name: str) -> dict[str, Any]:
        """What the manifest of an added thing says."""
        return read_json(self.manifest(kind, name))


def _is_added(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def name_from(source: str) -> str:
    """A name for what comes from `source`, a path or a hub id."""
    last = source.rstrip("/").rsplit("/", 1)[-1]
    stem = re.sub(r"\.(?:safetensors|ckpt|pt|pth|bin|pdparams)$", "", last)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:100] or "model"
