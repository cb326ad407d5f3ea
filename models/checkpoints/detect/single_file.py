"""A single safetensors file of a model, or of one network, as a folder in the diffusers layout.

The folder is made once in the user's cache. It holds small JSON files, the tokenizer, and in place
of each component's weights a link to the file: `Weights` selects the keys of each component.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from models.checkpoints.detect.detected_file import DetectedFile, detect_file
from models.checkpoints.detect.kinds import CLASS_KINDS
from models.checkpoints.detect.model_folder import weights_name, write_json, write_model_json
from models.checkpoints.detect.original_plans import NUMBERS
from models.checkpoints.detect.training_facts import (
    configuration_file,
    pools_conditions,
    training_facts,
)
from models.checkpoints.errors import CheckpointError
from models.checkpoints.names import default_name
from models.checkpoints.readers.headers import Header, read_header

# Changed whenever other JSON files are derived from the same file, so that none of an older version
# is used.
_LAYOUT = 5


def is_single_file(path: Path) -> bool:
    """Return True for an existing file with the suffix of safetensors."""
    return path.suffix == ".safetensors" and path.is_file()


def single_file_folder(path: Path, cache: Path | None = None) -> Path:
    """Return a folder in the diffusers layout whose weights are those of the file at `path`.

    cache: the folder to make it in, by default one in the user's cache.

    Raises UnknownFamily, Malformed and other CheckpointErrors, each naming the file.
    """
    source = _Source(path.absolute())
    folder = (cache or _user_cache()) / f"{default_name(source.path.name)}-{source.identity}"
    if folder.is_dir():
        return folder
    try:
        return _make_folder(source, folder)
    except CheckpointError as error:
        raise type(error)(f"{source.path}: {error}") from error


@dataclass(frozen=True)
class _Source:
    """A single file by the path that was given, which may be a link."""

    given: Path

    @property
    def path(self) -> Path:
        return self.given.resolve()

    @property
    def configuration(self) -> Path | None:
        return configuration_file(self.given)

    @property
    def identity(self) -> str:
        """A hash that changes with the file, its configuration, its name and `_LAYOUT`."""
        parts = [str(_LAYOUT), self.given.parent.name, self.given.name]
        for part in (self.path, self.configuration):
            if part is not None:
                stat = part.stat()
                parts.append(f"{part}\0{stat.st_size}\0{stat.st_mtime_ns}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _user_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "darkroom" / "single_files"


def _make_folder(source: _Source, folder: Path) -> Path:
    header = read_header(source.path)
    file = detect_file(header.shapes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        if file.kind == "model":
            _write_model(source, header, file, making)
        else:
            _write_network(source, file, making)
        os.rename(making, folder)
    except OSError:
        # Another process may have made the same folder first.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _write_network(source: _Source, file: DetectedFile, folder: Path) -> None:
    if file.kind not in CLASS_KINDS.values():
        raise CheckpointError(f"it is a {file.kind}, and no network")
    config = file.config(file.kind)
    if file.kind == "controlnet" and pools_conditions(source.given):
        config["global_pool_conditions"] = True
    write_json(folder / "config.json", config)
    (folder / weights_name(file.kind)).symlink_to(source.path)


def _write_model(source: _Source, header: Header, file: DetectedFile, folder: Path) -> None:
    if file.family.tokenizer != "clip":
        raise CheckpointError(
            f"{file.family.title} reads another vocabulary than CLIP's, which the file does not "
            "hold: add it with `darkroom models add --tokenizer`"
        )
    name = source.given.stem if file.family.is_ambiguous else None
    numbers = _numbers(source.path, header)
    training = training_facts(source.configuration, header.shapes, header.metadata, name, numbers)
    write_model_json(folder, file, numbers, training)
    for component in file.held:
        (folder / component / weights_name(component)).symlink_to(source.path)


def _numbers(path: Path, header: Header) -> dict[str, float]:
    """Return the numbers that the file holds beside its weights. Raises CheckpointError."""
    return {key: _number(path, header, key) for key in NUMBERS if key in header.entries}


def _number(path: Path, header: Header, key: str) -> float:
    entry = header.entries[key]
    code = {"F64": "<d", "F32": "<f", "F16": "<e"}.get(entry.dtype)
    if code is None or entry.end - entry.begin != struct.calcsize(code):
        raise CheckpointError(f"{key} is {entry.dtype} {entry.shape}, not one number")
    with path.open("rb") as file:
        file.seek(entry.begin)
        value: float = struct.unpack(code, file.read(entry.end - entry.begin))[0]
    return value
