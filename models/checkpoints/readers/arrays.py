"""Tensors of a file that is being converted, as numpy arrays over the mapped file.

numpy has no bfloat16: such an array holds the bits as uint16, and `dtype` is "BF16".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.checkpoints.errors import Malformed
from models.checkpoints.key_plan import Shape

# dtype in safetensors -> dtype in numpy, little-endian.
NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
    "BOOL": "|b1", "F8_E4M3": "|u1", "F8_E5M2": "|u1",
}  # fmt: skip


@dataclass(frozen=True)
class TypedArray:
    """An array and the dtype of its bits, as in safetensors."""

    dtype: str
    array: NDArray[Any]

    @property
    def shape(self) -> Shape:
        return tuple(self.array.shape)


Tensors = dict[str, TypedArray]


def shapes_of_arrays(tensors: Mapping[str, TypedArray]) -> dict[str, Shape]:
    """Return the shape of every tensor."""
    return {name: typed.shape for name, typed in tensors.items()}


def strided_view(
    raw: memoryview, dtype: str, offset: int, shape: Shape, strides: tuple[int, ...]
) -> TypedArray:
    """Return a view of a tensor in the storage `raw`; offset and strides count elements.

    An element may occur only once: otherwise a small file could expand to a huge one.

    Raises Malformed.
    """
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers):
        raise Malformed(f"a tensor has shape {shape}, strides {strides} and offset {offset}")
    count, elements = len(raw) // np.dtype(NUMPY[dtype]).itemsize, math.prod(shape)
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if elements and (last >= count or elements > count):
        raise Malformed(
            f"a tensor of shape {shape} asks for {elements} elements up to {last + 1} of a storage "
            f"that has {count}"
        )
    if not elements:
        return TypedArray(dtype, np.empty(shape, NUMPY[dtype]))
    if _overlaps(shape, strides):
        raise Malformed(f"a tensor of shape {shape} and strides {strides} overlaps itself")
    base = np.frombuffer(raw, NUMPY[dtype])
    steps = tuple(step * base.itemsize for step in strides)
    array = np.lib.stride_tricks.as_strided(base[offset:], shape, steps, writeable=False)
    return TypedArray(dtype, array)


def _overlaps(shape: Shape, strides: tuple[int, ...]) -> bool:
    """Return True if, in order of strides, a dimension begins before the one before it ends."""
    reach = 0
    for step, size in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n > 1):
        if step <= reach:
            return True
        reach += step * (size - 1)
    return False
