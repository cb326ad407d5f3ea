"""Tensors from the call records of a torch pickle (`pickles.CallRecord`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.checkpoints.errors import Malformed
from models.checkpoints.readers.arrays import Tensors, TypedArray, strided_view
from models.checkpoints.readers.pickle_globals import (
    PARAMETER_DICT,
    REBUILD_PARAMETER,
    REBUILD_TENSOR,
    REBUILD_TYPED,
    STORAGES,
)
from models.checkpoints.readers.pickles import CallRecord, Global, Persistent, short_repr

# The entries of the saved dictionary that may hold the weights.
_NESTS = ("state_dict", "params_ema", "params", "module", "model", "generator")
_LONGEST = 200  # characters of a name; no nesting of modules is longer


@dataclass(frozen=True)
class Storage:
    """A storage that a pickle refers to: its key, its dtype and its number of elements."""

    key: str
    dtype: str
    count: int


Find = Callable[[Storage], memoryview]


def read_tensors(value: Any, find: Find) -> Tensors:
    """Return all tensors of a saved dictionary by dotted names; `find` returns a storage's bytes.

    Entries without tensors (counters, training state) are left out.

    Raises Malformed.
    """
    entries = _entries(value)
    if entries is None:
        raise Malformed("it holds no dictionary of tensors")
    for nest in _NESTS:
        inner = _entries(entries.get(nest))
        if inner and any(_is_tensor(entry) for entry in inner.values()):
            entries = inner
            break
    tensors: Tensors = {}
    _gather(entries, "", find, tensors, set())
    if not tensors:
        raise Malformed(
            f"it holds no tensors; its keys are {', '.join(map(short_repr, entries))[:300]}"
        )
    return tensors


def _gather(
    entries: Mapping[Any, Any], prefix: str, find: Find, tensors: Tensors, visited: set[int]
) -> None:
    """Add the tensors below `entries`. visited: ids of dictionaries, since one may hold itself."""
    visited.add(id(entries))
    for key, entry in entries.items():
        name = f"{prefix}{key if isinstance(key, str) else short_repr(key)}"
        if _is_tensor(entry):
            tensors[name] = _tensor(entry, find)
        elif (inner := _entries(entry)) and id(inner) not in visited and len(name) < _LONGEST:
            _gather(inner, f"{name}.", find, tensors, visited)


def _entries(value: Any) -> Mapping[Any, Any] | None:
    """Return the entries of a dictionary or of a record of one; None for any other value."""
    if isinstance(value, CallRecord) and value.function.name == PARAMETER_DICT:
        state = value.state
        return _entries(state.get("_parameters")) if isinstance(state, dict) else None
    if isinstance(value, CallRecord) and value.function.name == "collections.OrderedDict":
        return value.entries
    return value if isinstance(value, dict) else None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, CallRecord) and value.function.name in (
        *REBUILD_TENSOR,
        REBUILD_PARAMETER,
        REBUILD_TYPED,
    )


def _tensor(value: Any, find: Find) -> TypedArray:
    """Return the tensor of a record; parameters and typed tensors wrap another, twice at most."""
    for _ in range(3):
        if not isinstance(value, CallRecord):
            break
        if value.function.name in REBUILD_TENSOR:
            return _strided(value.args, find)
        if value.function.name == REBUILD_PARAMETER and value.args:
            value = value.args[0]
        elif value.function.name == REBUILD_TYPED and len(value.args) >= 3:
            function, _type, args = value.args[:3]
            if not isinstance(function, Global) or not isinstance(args, tuple):
                break
            value = CallRecord(function, args)
    raise Malformed("a tensor of it is made in a way that torch does not write")


def _strided(args: tuple[Any, ...], find: Find) -> TypedArray:
    if len(args) < 4 or not isinstance(args[0], Persistent) or type(args[1]) is not int:
        raise Malformed("a tensor of it has no storage")
    stored = storage(args[0].id)
    shape, strides = (_sizes(sizes) for sizes in args[2:4])
    raw = find(stored)
    return strided_view(raw, stored.dtype, args[1], shape, strides)


def _sizes(value: Any) -> tuple[int, ...]:
    """Return a shape or strides: a tuple, or a `torch.Size` of one."""
    if isinstance(value, CallRecord) and value.function.name == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, tuple | list) or not all(type(size) is int for size in value):
        raise Malformed(f"a tensor of it has sizes {short_repr(value)}")
    return tuple(value)


def storage(reference: Any) -> Storage:
    """Return the storage of a persistent id: ("storage", type, key, device, count[, view])."""
    if (
        not isinstance(reference, tuple)
        or len(reference) not in (5, 6)
        or reference[0] != "storage"
    ):
        raise Malformed("its pickle refers to what is no storage")
    kind, key, count = reference[1], reference[2], reference[4]
    if not isinstance(kind, Global) or kind.name not in STORAGES:
        raise Malformed(f"a storage of it holds {short_repr(kind)}")
    if len(reference) == 6 and reference[5] is not None:
        raise Malformed("a storage of it is a view of another, which only torch before 0.4 wrote")
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 48:
        raise Malformed(
            f"a storage of it is called {short_repr(key)} and has {short_repr(count)} elements"
        )
    return Storage(key, STORAGES[kind.name], count)
