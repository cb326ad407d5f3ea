"""Files of `paddle.save`: one pickle of a dictionary of numpy arrays, `.pdparams`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from models.checkpoints.errors import Malformed
from models.checkpoints.key_plan import Shape
from models.checkpoints.readers.arrays import Tensors, TypedArray
from models.checkpoints.readers.pickle_globals import (
    ARRAY_OF_BYTES,
    DTYPE,
    ENCODE,
    NEW_ARRAY,
    is_allowed,
)
from models.checkpoints.readers.pickles import CallRecord, Global, read_pickle, short_repr

# A table of the names in the program, which Paddle saves with the arrays.
_NAME_TABLE = "StructuredToParameterName@@"

# numpy's codes. Paddle keeps the bits of bfloat16 in uint16.
_DTYPES = {
    "f8": "F64", "f4": "F32", "f2": "F16", "u2": "BF16",
    "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u1": "U8", "b1": "BOOL",
}  # fmt: skip


def read_paddle(data: memoryview) -> Tensors:
    """Return the arrays of a pickle that is mapped at `data`. Raises Malformed."""
    value = read_pickle(data, is_allowed).value
    if not isinstance(value, dict):
        raise Malformed("it holds no dictionary of arrays")
    return {
        key: _array(key, entry)
        for key, entry in value.items()
        if isinstance(key, str) and key != _NAME_TABLE
    }


def _array(key: Any, entry: Any) -> TypedArray:
    # (name, array), as Paddle writes parameters since 2.1.
    if isinstance(entry, tuple) and len(entry) == 2:
        entry = entry[1]
    if isinstance(entry, CallRecord) and NEW_ARRAY.fullmatch(entry.function.name):
        return _from_state(key, entry.state)
    if isinstance(entry, CallRecord) and ARRAY_OF_BYTES.fullmatch(entry.function.name):
        return _from_buffer(key, entry.args)
    raise Malformed(f"its {short_repr(key)} is no array")


def _from_state(key: Any, state: Any) -> TypedArray:
    """Read the state of a pickled array: (version, shape, dtype, Fortran order, bytes)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise Malformed(f"the array {short_repr(key)} of it has no valid state")
    _version, shape, dtype, columns_first, raw = state
    return _typed(key, shape, dtype, raw, "F" if columns_first else "C")


def _from_buffer(key: Any, args: tuple[Any, ...]) -> TypedArray:
    """Read the arguments of an array in protocol 5: (bytes, dtype, shape, order)."""
    if len(args) != 4:
        raise Malformed(f"the array {short_repr(key)} of it has no valid state")
    raw, dtype, shape, order = args
    return _typed(key, shape, dtype, raw, "F" if order == "F" else "C")


def _typed(key: Any, shape: Any, dtype: Any, raw: Any, order: str) -> TypedArray:
    code = _dtype(dtype)
    sizes = _shape(key, shape)
    array = np.frombuffer(_raw(raw), code)
    if array.size != int(np.prod(sizes, dtype=np.float64)):
        raise Malformed(
            f"the array {short_repr(key)} of it has {array.size} elements; {sizes} needs more or "
            "less"
        )
    return TypedArray(_DTYPES[code], array.reshape(sizes, order="F" if order == "F" else "C"))


def _shape(key: Any, shape: Any) -> Shape:
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise Malformed(f"the array {short_repr(key)} of it has shape {short_repr(shape)}")
    return shape


def _dtype(value: Any) -> str:
    """Return numpy's code, such as f4, of dtype("f4", False, True) with a little-endian state."""
    if isinstance(value, CallRecord) and value.function.name == DTYPE and value.args:
        code = short_repr(value.args[0]).strip("'").lstrip("<|=")
        state = value.state
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
        if code in _DTYPES and order in ("<", "|", "="):
            return code
    held = value.args[0] if isinstance(value, CallRecord) and value.args else value
    raise Malformed(f"an array of it holds {short_repr(held)}, which is no supported dtype")


def _raw(value: Any) -> memoryview:
    """Return the bytes of an array; protocol 2 writes them as text, to be encoded in latin-1."""
    if isinstance(value, CallRecord) and value.function == Global(ENCODE) and value.args:
        value = value.args[0]
    if isinstance(value, str):
        value = memoryview(value.encode("latin-1"))
    if isinstance(value, CallRecord) and re.fullmatch(
        r"builtins\.(bytes|bytearray)", value.function.name
    ):
        value = value.args[0] if value.args else memoryview(b"")
    if not isinstance(value, memoryview):
        raise Malformed("an array of it has no bytes")
    return value
