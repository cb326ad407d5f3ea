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
from pathlib import Path

from models.checkpoints.detect.detected_file import DetectedFile, detect_file
from models.checkpoints.detect.kinds import CLASS_KINDS
from models.checkpoints.detect.model_folder import weights_name, write_json, write_model_json
from models.checkpoints.detect.original_plans import SCALE_FACTOR
from models.checkpoints.errors import CheckpointError
from models.checkpoints.readers.headers import Header, read_header


def is_single_file(path: Path) -> bool:
    """Return True for an existing file with the suffix of safetensors."""
    return path.suffix == ".safetensors" and path.is_file()


def single_file_folder(path: Path) -> Path:
    """Return a folder in the diffusers layout whose weights are those of the file at `path`.

    Raises UnknownFamily, Malformed and other CheckpointErrors, each naming the file.
    """
    path = path.resolve()
    folder = _user_cache() / f"{path.stem}-{_identity(path)}"
    if folder.is_dir():
        return folder
    try:
        return _make_folder(path, folder)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error


def _user_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "darkroom" / "single_files"


def _identity(path: Path) -> str:
    """Return a hash that changes when the file does."""
    stat = path.stat()
    identity = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _make_folder(path: Path, folder: Path) -> Path:
    header = read_header(path)
    file = detect_file(header.shapes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        if file.kind == "model":
            _write_model(path, header, file, making)
        else:
            _write_network(path, file, making)
        os.rename(making, folder)
    except OSError:
        # Another process may have made the same folder first.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _write_network(path: Path, file: DetectedFile, folder: Path) -> None:
    if file.kind not in CLASS_KINDS.values():
        raise CheckpointError(f"it is a {file.kind}, and no network")
    write_json(folder / "config.json", file.config(file.kind))
    (folder / weights_name(file.kind)).symlink_to(path)


def _write_model(path: Path, header: Header, file: DetectedFile, folder: Path) -> None:
    if file.family.tokenizer != "clip":
        raise CheckpointError(
            f"{file.family.title} reads another vocabulary than CLIP's, which the file does not "
            "hold: add it with `darkroom models add --tokenizer`"
        )
    write_model_json(folder, file, _scale_factor(path, header))
    for component in file.plans:
        (folder / component / weights_name(component)).symlink_to(path)


def _scale_factor(path: Path, header: Header) -> float | None:
    """Return the buffer `scale_factor`, which some models of the paper hold with their weights."""
    entry = header.entries.get(SCALE_FACTOR)
    if entry is None:
        return None
    code = {"F64": "<d", "F32": "<f", "F16": "<e"}.get(entry.dtype)
    if code is None or entry.end - entry.begin != struct.calcsize(code):
        raise CheckpointError(f"{SCALE_FACTOR} is {entry.dtype} {entry.shape}, not one number")
    with path.open("rb") as file:
        file.seek(entry.begin)
        value: float = struct.unpack(code, file.read(entry.end - entry.begin))[0]
    return value
