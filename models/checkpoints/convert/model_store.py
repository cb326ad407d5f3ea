"""The model store: a folder with everything that the operator has added, by kind and name.

models/<name>/            a folder in the diffusers layout, with manifest.json
controlnets/<name>/       config.json and weights, with manifest.json
vaes/<name>/, unets/<name>/, upscalers/<name>/    the same
loras/<name>.safetensors         with <name>.json, its manifest
embeddings/<name>.safetensors    the same
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.detect.kinds import Kind
from models.checkpoints.errors import CheckpointError, CheckpointMissing
from models.checkpoints.file_hash import MANIFEST
from models.checkpoints.files import read_json
from models.checkpoints.names import by_name, checked_name, name_problem, normal_form

_FOLDERS: dict[Kind, str] = {
    "model": "models",
    "lora": "loras",
    "embedding": "embeddings",
    "controlnet": "controlnets",
    "vae": "vaes",
    "unet": "unets",
    "upscaler": "upscalers",
}
_FILES: tuple[Kind, ...] = ("lora", "embedding")


@dataclass(frozen=True)
class Installed:
    """An installed checkpoint and its path in the store."""

    kind: Kind
    name: str
    title: str
    path: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelStore:
    """The folder `root`, which may be absent."""

    root: Path

    def path(self, kind: Kind, name: str) -> Path:
        """Return the file or folder for that name. Raises CheckpointError for an invalid name."""
        name = checked_name(name)
        folder = self.root / _FOLDERS[kind]
        return folder / (f"{name}.safetensors" if kind in _FILES else name)

    def manifest(self, kind: Kind, name: str) -> Path:
        """Return the path of a manifest, which holds the source and the hash of each file.

        If the source is a single file, it has the hash of that, too.
        """
        path = self.path(kind, name)
        return path.with_suffix(".json") if kind in _FILES else path / MANIFEST

    def find(self, kind: Kind, name: str) -> Path:
        """Return the existing path of that name. Raises CheckpointMissing, listing the names."""
        path = self.path(kind, name)
        if not path.exists():
            have = ", ".join(self.names(kind)) or "none"
            raise CheckpointMissing(f"no {kind} {name!r} has been added; there are: {have}")
        return path

    def find_any(self, name: str) -> list[Path]:
        """Return the existing paths of that name of every kind, a model first."""
        if name_problem(normal_form(name)):
            return []
        return [path for kind in _FOLDERS if (path := self.path(kind, name)).exists()]

    def names(self, kind: Kind) -> list[str]:
        """Return the sorted names of a kind."""
        folder = self.root / _FOLDERS[kind]
        if not folder.is_dir():
            return []
        if kind in _FILES:
            return list(by_name((path.stem, path) for path in folder.glob("*.safetensors")))
        return list(by_name((path.name, path) for path in folder.iterdir() if _is_added(path)))

    def read_manifest(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return the content of a manifest. Raises CheckpointError."""
        return read_json(self.manifest(kind, name))

    def installed_by(self, install_id: str, name: str) -> Installed | None:
        """Return what the install of this id has put under `name`, if it got so far."""
        for kind in _FOLDERS:
            path = self.path(kind, name)
            if path.exists() and self.manifest(kind, name).is_file():
                manifest = self.read_manifest(kind, name)
                if manifest.get("install") == install_id:
                    return Installed(kind, name, str(manifest.get("title")), path)
        return None

    def requested_models(self) -> list[str]:
        """Return the names of the models that were installed by request."""
        try:
            names = self.names("model")
        except OSError:  # a folder that cannot be read has none to offer
            return []
        return [name for name in names if self._was_requested(name)]

    def _was_requested(self, name: str) -> bool:
        try:
            return "install" in self.read_manifest("model", name)
        except CheckpointError:  # copied there without a manifest, or damaged
            return False


def _is_added(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")
