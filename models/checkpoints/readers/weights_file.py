"""Reading of weight files in any format, as arrays over the mapped bytes; no code is run."""

from __future__ import annotations

import mmap
from pathlib import Path

from models.checkpoints.errors import CheckpointMissing, ForbiddenGlobal, Malformed
from models.checkpoints.files import SAFE
from models.checkpoints.readers.arrays import Tensors, strided_view
from models.checkpoints.readers.headers import read_header
from models.checkpoints.readers.paddle_file import read_paddle
from models.checkpoints.readers.torch_file import is_old, is_zip, read_old, read_zip

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
PADDLE = (".pdparams",)
SUFFIXES = (*SAFE, *PICKLES, *PADDLE)

# Limit for the tensors of a file together, which may share storages, as a multiple of its size.
_MAX_UNFOLDING = 4


def read_weights(path: Path) -> Tensors:
    """Return the tensors of the file at `path`; its suffix and first bytes decide the format.

    Raises CheckpointMissing, Malformed and ForbiddenGlobal, each naming the file.
    """
    if path.suffix not in SUFFIXES:
        raise Malformed(f"{path.name} is none of {', '.join(SUFFIXES)}")
    if path.suffix in SAFE:
        return _safetensors(path, _mapped(path))
    data = _mapped(path)
    try:
        tensors = _pickled(path, data)
        _refuse_unfolding(tensors, len(data))
    except ForbiddenGlobal:
        raise
    except Malformed as error:
        raise Malformed(f"{path.name}: {error}") from error
    return tensors


def _mapped(path: Path) -> memoryview:
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise CheckpointMissing(f"{path} cannot be read: {error}") from error


def _safetensors(path: Path, data: memoryview) -> Tensors:
    return {
        name: strided_view(
            data[entry.begin : entry.end], entry.dtype, 0, entry.shape, _steps(entry.shape)
        )
        for name, entry in read_header(path).entries.items()
    }


def _steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor, in elements."""
    steps = [1]
    for size in reversed(shape[1:]):
        steps.append(steps[-1] * max(size, 1))
    return tuple(reversed(steps)) if shape else ()


def _pickled(path: Path, data: memoryview) -> Tensors:
    if path.suffix in PADDLE:
        return read_paddle(data)
    if is_zip(data):
        return read_zip(path, data)
    if is_old(data):
        return read_old(data)
    if bytes(data[257:262]) == b"ustar":
        raise Malformed("it is a tar archive, as torch wrote before 0.1.10: save it again")
    return _plain_pickle(data)


def _plain_pickle(data: memoryview) -> Tensors:
    """Refuse a file that torch did not write; a pickle is read, so that the error can name its
    forbidden globals."""
    try:
        return read_paddle(data)
    except ForbiddenGlobal:
        raise
    except Malformed as error:
        start = bytes(data[:12])
        raise Malformed(f"it begins with {start!r}: not a file of torch.save") from error


def _refuse_unfolding(tensors: Tensors, size: int) -> None:
    total = sum(typed.array.nbytes for typed in tensors.values())
    if total > _MAX_UNFOLDING * size:
        raise Malformed(
            f"its tensors share storages and would unfold to {total} bytes; the file has {size}"
        )
