"""A single safetensors file of a model, or of one network, as if it were a folder as published.

The folder is made once in the user's cache: small JSON files and the tokenizer, and in place of
every component's weights a link to the file. `weights` finds out which keys belong to whom.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from pathlib import Path

from models.checkpoints.detect.configs import config_alone
from models.checkpoints.detect.families import detect
from models.checkpoints.detect.kinds import CLASS_KINDS, Kind, kind_of
from models.checkpoints.detect.layout import stem, write_json, write_json_files
from models.checkpoints.detect.original import MARKS, SCALE_FACTOR, take_apart
from models.checkpoints.detect.spelling import component_plan
from models.checkpoints.errors import CheckpointError
from models.checkpoints.parts import shapes_of
from models.checkpoints.readers.headers import Entry, Header, read_header

_SUFFIX = ".safetensors"


def is_single_file(path: Path) -> bool:
    """Whether `path` is a safetensors file, by its name."""
    return path.suffix == _SUFFIX and path.is_file()


def laid_out(path: Path, cache: Path | None = None) -> Path:
    """A folder in the published layout whose weights are those of the file at `path`.

    `cache` is where such folders are kept; by default the user's cache folder.

    Raises UnknownFamily, Malformed and other CheckpointErrors, naming the file.
    """
    path = path.resolve()
    folder = (cache or _user_cache()) / f"{path.stem}-{_identity(path)}"
    if folder.is_dir():
        return folder
    try:
        return _lay_out(path, folder)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error


def _user_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "darkroom" / "single_files"


def _identity(path: Path) -> str:
    """Changes when the file does."""
    found = path.stat()
    said = f"{path}\0{found.st_size}\0{found.st_mtime_ns}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _lay_out(path: Path, folder: Path) -> Path:
    header = read_header(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        kind = kind_of(header.shapes)
        if kind == "model":
            _lay_out_model(path, header, making)
        else:
            _lay_out_network(path, header, kind, making)
        # Another process may have been quicker; its folder says the same.
        os.rename(making, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _lay_out_network(path: Path, header: Header, kind: Kind, folder: Path) -> None:
    if kind not in CLASS_KINDS.values():
        raise CheckpointError(f"it is a {kind}, and no network")
    shapes = shapes_of(component_plan(kind, header.shapes), header.shapes)
    write_json(folder / "config.json", config_alone(kind, shapes))
    (folder / f"{stem(kind)}{_SUFFIX}").symlink_to(path)


def _lay_out_model(path: Path, header: Header, folder: Path) -> None:
    family = detect(header.shapes)
    if family.tokenizer != "clip":
        raise CheckpointError(
            f"{family.title} reads another vocabulary than CLIP's, which the file does not hold: "
            "add it with `darkroom models add --tokenizer`"
        )
    contents = take_apart(header.shapes, family)
    write_json_files(folder, family, contents, header.shapes, _buffers(path, header))
    for part in contents.components:
        (folder / part / f"{stem(part)}{_SUFFIX}").symlink_to(path)


def _buffers(path: Path, header: Header) -> dict[str, float]:
    """What single files say beside their weights."""
    found = {mark: 1.0 for mark in MARKS if mark in header.entries}
    if SCALE_FACTOR in header.entries:
        found[SCALE_FACTOR] = _scalar(path, header.entries[SCALE_FACTOR])
    return found


def _scalar(path: Path, entry: Entry) -> float:
    code = {"F64": "<d", "F32": "<f", "F16": "<e"}.get(entry.dtype)
    if code is None or entry.end - entry.begin != struct.calcsize(code):
        raise CheckpointError(f"{SCALE_FACTOR} is {entry.dtype} {entry.shape}, not one number")
    with path.open("rb") as file:
        file.seek(entry.begin)
        value: float = struct.unpack(code, file.read(entry.end - entry.begin))[0]
    return value
