"""The header of a safetensors file, read and checked without reading a weight.

    8 bytes: length of the header | JSON: name -> {dtype, shape, data_offsets} | the tensors

A header is accepted only if its tensors fill the rest of the file exactly, one after the other,
and each has the number of bytes of its shape.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.errors import CheckpointMissing, Malformed
from models.checkpoints.key_plan import Shape

# Published headers are below 1 MB; some carry a thumbnail of the model.
_MAX_HEADER = 16 << 20

ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8,
    "F32": 4, "I32": 4, "U32": 4,
    "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor; `begin` and `end` of its bytes count from the start of the file."""

    dtype: str
    shape: Shape
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """The tensors and the metadata of a safetensors file."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: entry.shape for name, entry in self.entries.items()}


def read_header(path: Path) -> Header:
    """Return the header of the file at `path`. Raises CheckpointMissing and Malformed."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = _length(path, start, size)
            raw = file.read(length)
    except OSError as error:
        raise CheckpointMissing(f"{path} cannot be read: {error.strerror}") from error
    if len(raw) < length:
        raise Malformed(f"{path} is cut off: its header has {length} bytes, {len(raw)} are there")
    return _header(path, _parse(path, raw), 8 + length, size)


def _length(path: Path, start: bytes, size: int) -> int:
    if len(start) < 8:
        raise Malformed(f"{path} is no safetensors file: it has {size} bytes")
    length: int = struct.unpack("<Q", start)[0]
    if start == b"version ":
        raise Malformed(f"{path} is a pointer of git-lfs, not the file: fetch it with git lfs pull")
    if length > size - 8:
        raise Malformed(f"{path} says its header has {length} bytes; the file has {size}")
    if length > _MAX_HEADER:
        raise Malformed(f"{path} has a header of {length} bytes; {_MAX_HEADER} are the most")
    return length


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        data = json.loads(raw, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{path} has a header that is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise Malformed(f"{path} has a header that is no JSON object")
    return data


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key stands twice in it")
    return data


def _header(path: Path, data: dict[str, Any], begin: int, size: int) -> Header:
    metadata = data.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise Malformed(f"{path}: its metadata are no JSON object")
    entries = {name: _entry(path, name, entry, begin) for name, entry in data.items()}
    at = begin
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise Malformed(f"{path}: tensor {name} begins at {entry.begin}, not at {at}")
        at = entry.end
    if at != size:
        raise Malformed(f"{path}: its tensors end at {at}, the file at {size}")
    return Header(entries, {str(k): str(v) for k, v in metadata.items()})


def _entry(path: Path, name: str, entry: Any, begin: int) -> Entry:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        item = ITEM_BYTES[dtype]
        numbers = [*shape, start, end]
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"{path}: the entry of {name} is not understood") from error
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise Malformed(f"{path}: the entry of {name} holds {numbers}, not all sizes")
    if end - start != math.prod(shape) * item:
        raise Malformed(
            f"{path}: tensor {name} has {end - start} bytes; {dtype} {tuple(shape)} needs "
            f"{math.prod(shape) * item}"
        )
    return Entry(dtype, tuple(shape), begin + start, begin + end)
