"""Writing of safetensors files tensor by tensor, with a hash of the file."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from models.checkpoints.key_plan import KeyPlan
from models.checkpoints.readers.arrays import Tensors, TypedArray

WriteProgress = Callable[[int], None]  # called with the bytes of each tensor


def write_safetensors(
    path: Path,
    tensors: Tensors,
    plan: KeyPlan,
    metadata: Mapping[str, str],
    progress: WriteProgress = lambda written: None,
) -> str:
    """Write the parameters of `plan`, cut from `tensors`; return the SHA-256 of the file.

    Only one tensor at a time is copied. `path` must not exist.
    """
    parameters = {
        name: TypedArray(tensors[source.key].dtype, source.cut(tensors[source.key].array))
        for name, source in sorted(plan.items())
    }
    header = _header(parameters, metadata)
    digest = hashlib.sha256(header)
    with path.open("xb") as file:
        file.write(header)
        for typed in parameters.values():
            raw = np.ascontiguousarray(typed.array).reshape(-1).view(np.uint8).data
            file.write(raw)
            digest.update(raw)
            progress(len(raw))
    return digest.hexdigest()


def write_outline(path: Path, tensors: Tensors, kept: Collection[str]) -> None:
    """Write a file with the header of `tensors`, and a hole in place of all but those `kept`.

    `path` must not exist.
    """
    header = _header(tensors, {})
    at = len(header)
    with path.open("xb") as file:
        file.write(header)
        for name, typed in tensors.items():
            if name in kept:
                file.seek(at)
                file.write(np.ascontiguousarray(typed.array).tobytes())
            at += typed.array.nbytes
        file.truncate(at)


def _header(tensors: Tensors, metadata: Mapping[str, str]) -> bytes:
    """Return the length of the header and the header, padded to a multiple of 8 bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for name, typed in tensors.items():
        end = at + typed.array.nbytes
        entries[name] = {"dtype": typed.dtype, "shape": typed.shape, "data_offsets": [at, end]}
        at = end
    raw = json.dumps(entries, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw
