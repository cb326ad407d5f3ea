"""safetensors files written tensor by tensor, with the hash of what was written."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from models.checkpoints.parts import Plan
from models.checkpoints.readers.arrays import Tensors, Typed

Progress = Callable[[int], None]


def write_safetensors(
    path: Path,
    tensors: Tensors,
    plan: Plan,
    metadata: Mapping[str, str],
    progress: Progress = lambda written: None,
) -> str:
    """Write what `plan` makes of `tensors`; returns the SHA-256 of the file.

    One tensor at a time is copied. `progress` hears the bytes of each.
    """
    parts = {
        name: Typed(tensors[part.key].dtype, part.cut(tensors[part.key].array))
        for name, part in sorted(plan.items())
    }
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for name, typed in parts.items():
        end = at + typed.array.nbytes
        header[name] = {"dtype": typed.dtype, "shape": typed.shape, "data_offsets": [at, end]}
        at = end
    said = json.dumps(header, separators=(",", ":")).encode()
    said += b" " * (-len(said) % 8)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for piece in (struct.pack("<Q", len(said)), said):
            file.write(piece)
            digest.update(piece)
        for typed in parts.values():
            raw = np.ascontiguousarray(typed.array).reshape(-1).view(np.uint8).data
            file.write(raw)
            digest.update(raw)
            progress(len(raw))
    return digest.hexdigest()
