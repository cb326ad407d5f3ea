"""Hostile files, written opcode by opcode and byte by byte."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

PROTO2, PROTO4, STOP = b"\x80\x02", b"\x80\x04", b"."


def text(value: str) -> bytes:
    """Return the opcode BINUNICODE and its text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """Return the opcode LONG1 and any integer."""
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def named(module: str, name: str) -> bytes:
    """Return the opcode GLOBAL and a name."""
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *args: bytes) -> bytes:
    """Return GLOBAL, its arguments, and REDUCE."""
    return named(module, name) + b"(" + b"".join(args) + b"tR"


def dictionary(entries: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def sizes(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def tensor(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *,
    count: int,
    key: str = "0",
    offset: int = 0,
    kind: str = "FloatStorage",
) -> bytes:
    """Return a tensor of a storage of `count` elements, as torch pickles it."""
    storage = b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu")
    storage += number(count) + b"tQ"
    rest = (
        number(offset)
        + sizes(shape)
        + sizes(strides)
        + b"\x89"
        + call("collections", "OrderedDict")
    )
    return named("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + rest + b"tR"  # fmt: skip


def saved(value: bytes) -> bytes:
    """Return a pickle of protocol 2."""
    return PROTO2 + value + STOP


def archive(pickle: bytes, storages: Mapping[str, bytes] | None = None, **others: bytes) -> bytes:
    """Return a zip archive in the format of torch.save."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target:
        target.writestr("archive/data.pkl", pickle)
        for key, raw in (storages or {"0": bytes(16)}).items():
            target.writestr(f"archive/data/{key}", raw)
        for name, raw in others.items():
            target.writestr(f"archive/{name}", raw)
    return file.getvalue()


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with this header, declared to have `length` bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: list[Any], begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
