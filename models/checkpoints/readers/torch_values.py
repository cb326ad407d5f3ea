"""Tensors out of the records that a pickle of torch's leaves (`pickles.Made`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.checkpoints.errors import Malformed
from models.checkpoints.readers.arrays import Tensors, Typed, strided
from models.checkpoints.readers.pickles import Global, Made, Persistent, said
from models.checkpoints.readers.torch_names import (
    PARAMETER_DICT,
    REBUILD_PARAMETER,
    REBUILD_TENSOR,
    REBUILD_TYPED,
    STORAGES,
)

# Where the weights stand in the dictionary that was saved, if not right there.
_NESTS = ("state_dict", "params_ema", "params", "module", "model", "generator")
_LONGEST = 200  # letters of a name; more is no nesting of modules


@dataclass(frozen=True)
class Storage:
    """A storage that a pickle refers to: its key, what it holds and how many."""

    key: str
    dtype: str
    count: int


Find = Callable[[Storage], memoryview]


def read_tensors(value: Any, find: Find) -> Tensors:
    """All tensors of a saved dictionary by their dotted names; `find` brings a storage's bytes.

    Entries that hold no tensor (counters, the state of training) are left out.

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
        raise Malformed(f"it holds no tensors; its keys are {', '.join(map(said, entries))[:300]}")
    return tensors


def _gather(
    entries: Mapping[Any, Any], prefix: str, find: Find, tensors: Tensors, known: set[int]
) -> None:
    """`known`: the dictionaries that have been looked into; one may hold itself."""
    known.add(id(entries))
    for key, entry in entries.items():
        name = f"{prefix}{key if isinstance(key, str) else said(key)}"
        if _is_tensor(entry):
            tensors[name] = _tensor(entry, find)
        elif (inner := _entries(entry)) and id(inner) not in known and len(name) < _LONGEST:
            _gather(inner, f"{name}.", find, tensors, known)


def _entries(value: Any) -> Mapping[Any, Any] | None:
    """The entries of a dictionary or of what stands for one."""
    if isinstance(value, Made) and value.by.name == PARAMETER_DICT:
        state = value.state
        return _entries(state.get("_parameters")) if isinstance(state, dict) else None
    if isinstance(value, Made) and value.by.name == "collections.OrderedDict":
        return value.entries
    return value if isinstance(value, dict) else None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Made) and value.by.name in (
        *REBUILD_TENSOR,
        REBUILD_PARAMETER,
        REBUILD_TYPED,
    )


def _tensor(value: Any, find: Find) -> Typed:
    """The tensor of one record; parameters and typed tensors wrap another, twice at most."""
    for _ in range(3):
        if not isinstance(value, Made):
            break
        if value.by.name in REBUILD_TENSOR:
            return _strided(value.args, find)
        if value.by.name == REBUILD_PARAMETER and value.args:
            value = value.args[0]
        elif value.by.name == REBUILD_TYPED and len(value.args) >= 3:
            function, _type, args = value.args[:3]
            if not isinstance(function, Global) or not isinstance(args, tuple):
                break
            value = Made(function, args)
    raise Malformed("a tensor of it is made in a way that torch does not write")


def _strided(args: tuple[Any, ...], find: Find) -> Typed:
    if len(args) < 4 or not isinstance(args[0], Persistent) or type(args[1]) is not int:
        raise Malformed("a tensor of it has no storage")
    stored = storage(args[0].id)
    shape, strides = (_sizes(sizes) for sizes in args[2:4])
    raw = find(stored)
    return strided(raw, stored.dtype, args[1], shape, strides)


def _sizes(value: Any) -> tuple[int, ...]:
    """A shape: a tuple, or a `torch.Size` of one."""
    if isinstance(value, Made) and value.by.name == "torch.Size" and value.args:
        value = value.args[0]
    if not isinstance(value, tuple | list) or not all(type(size) is int for size in value):
        raise Malformed(f"a tensor of it has sizes {said(value)}")
    return tuple(value)


def storage(reference: Any) -> Storage:
    """What a persistent id says: ("storage", type, key, place, count[, view])."""
    if (
        not isinstance(reference, tuple)
        or len(reference) not in (5, 6)
        or reference[0] != "storage"
    ):
        raise Malformed("its pickle refers to what is no storage")
    kind, key, count = reference[1], reference[2], reference[4]
    if not isinstance(kind, Global) or kind.name not in STORAGES:
        raise Malformed(f"a storage of it holds {said(kind)}")
    if len(reference) == 6 and reference[5] is not None:
        raise Malformed("a storage of it is a view of another, which only torch before 0.4 wrote")
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 48:
        raise Malformed(f"a storage of it is called {said(key)} and has {said(count)} elements")
    return Storage(key, STORAGES[kind.name], count)
