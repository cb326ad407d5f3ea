"""Files of `paddle.save`: one pickle of a dictionary of numpy arrays, `.pdparams`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from models.checkpoints.errors import Malformed
from models.checkpoints.parts import Shape
from models.checkpoints.readers.arrays import Tensors, Typed
from models.checkpoints.readers.pickles import Global, Made, read_pickle, said
from models.checkpoints.readers.torch_names import (
    ARRAY_OF_BYTES,
    DTYPE,
    ENCODE,
    NEW_ARRAY,
    is_allowed,
)

# A table of the names inside of the program, which Paddle saves beside the arrays.
_NAME_TABLE = "StructuredToParameterName@@"

# numpy's codes. Paddle keeps the bits of bfloat16 in uint16.
_DTYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "u2": "BF16",
    "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u1": "U8", "b1": "BOOL",
}  # fmt: skip


def read_paddle(data: memoryview) -> Tensors:
    """The arrays of a pickle that is mapped at `data`. Raises Malformed."""
    value = read_pickle(data, is_allowed).value
    if not isinstance(value, dict):
        raise Malformed("it holds no dictionary of arrays")
    return {
        key: _array(key, entry)
        for key, entry in value.items()
        if isinstance(key, str) and key != _NAME_TABLE
    }


def _array(key: Any, entry: Any) -> Typed:
    # A tensor with its name: (name, array), as Paddle writes parameters since 2.1.
    if isinstance(entry, tuple) and len(entry) == 2:
        entry = entry[1]
    if isinstance(entry, Made) and NEW_ARRAY.fullmatch(entry.by.name):
        return _from_state(key, entry.state)
    if isinstance(entry, Made) and ARRAY_OF_BYTES.fullmatch(entry.by.name):
        return _from_buffer(key, entry.args)
    raise Malformed(f"its {said(key)} is no array")


def _from_state(key: Any, state: Any) -> Typed:
    """The state of a pickled array: (version, shape, dtype, Fortran order, bytes)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise Malformed(f"the array {said(key)} of it has no sound state")
    _version, shape, dtype, columns_first, raw = state
    return _typed(key, shape, dtype, raw, "F" if columns_first else "C")


def _from_buffer(key: Any, args: tuple[Any, ...]) -> Typed:
    """What protocol 5 writes: (bytes, dtype, shape, order)."""
    if len(args) != 4:
        raise Malformed(f"the array {said(key)} of it has no sound state")
    raw, dtype, shape, order = args
    return _typed(key, shape, dtype, raw, "F" if order == "F" else "C")


def _typed(key: Any, shape: Any, dtype: Any, raw: Any, order: str) -> Typed:
    code = _dtype(dtype)
    sizes = _shape(key, shape)
    array = np.frombuffer(_raw(raw), code)
    if array.size != int(np.prod(sizes, dtype=np.float64)):
        raise Malformed(
            f"the array {said(key)} of it has {array.size} elements; {sizes} needs more or less"
        )
    return Typed(_DTYPES[code], array.reshape(sizes, order="F" if order == "F" else "C"))


def _shape(key: Any, shape: Any) -> Shape:
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise Malformed(f"the array {said(key)} of it has shape {said(shape)}")
    return shape


def _dtype(value: Any) -> str:
    """numpy's code, such as f4, of dtype("f4", False, True), little-endian by its state."""
    if isinstance(value, Made) and value.by.name == DTYPE and value.args:
        code = said(value.args[0]).strip("'").lstrip("<|=")
        state = value.state
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
        if code in _DTYPES and order in ("<", "|", "="):
            return code
    held = value.args[0] if isinstance(value, Made) and value.args else value
    raise Malformed(f"an array of it holds {said(held)}, no numbers we know")


def _raw(value: Any) -> memoryview:
    """Bytes; protocol 2 writes them as text and asks for its encoding in latin-1."""
    if isinstance(value, Made) and value.by == Global(ENCODE) and value.args:
        value = value.args[0]
    if isinstance(value, str):
        value = memoryview(value.encode("latin-1"))
    if isinstance(value, Made) and re.fullmatch(r"builtins\.(bytes|bytearray)", value.by.name):
        value = value.args[0] if value.args else memoryview(b"")
    if not isinstance(value, memoryview):
        raise Malformed("an array of it has no bytes")
    return value
