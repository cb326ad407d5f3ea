"""Reading of published configurations (config.json) into records.

The fields of a record have the names of the published files. Published files also carry switches
that this code does not implement: each is listed with the values that do not change the result, and
any other value is refused, because a wrong image without an error is worse than a refusal. Keys
that only record how a network was trained or saved are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from models.checkpoints.errors import UnsupportedConfig

# Keys of training and saving, which no computation reads: those of EMAModel of diffusers, which
# saves them with the averaged network, and attributes of modules that scripts save with the others.
_BOOKKEEPING_NAMES = """
    decay min_decay inv_gamma power optimization_step update_after_step use_ema_warmup
    gradient_checkpointing use_gradient_checkpointing transformers_version diffusers_version
    torch_dtype dtype architectures model_type name_or_path
"""
BOOKKEEPING = frozenset(_BOOKKEEPING_NAMES.split())

_MAX_LENGTH = 16  # of a list: the levels of a network

# Least and greatest value of a number. Beyond them a network could not be built, or not in time.
_ANY_SIZE = (1, 1 << 20)
_BOUNDS: Mapping[str, tuple[int, int]] = {
    "layers_per_block": (1, 8),
    "layers_per_down_block": (1, 8),
    "layers_per_up_block": (1, 8),
    "transformer_layers_per_block": (1, 16),
    "reverse_transformer_layers_per_block": (1, 16),
    "num_encoder_blocks": (0, 16),
    "num_decoder_blocks": (0, 16),
    "num_hidden_layers": (1, 64),
    "encoder_layers": (1, 64),
    "n_stages": (0, 8),
    "freq_shift": (0, 1),
    "eos_token_id": (0, 1 << 20),
}

# Numbers that may also be 0 or negative.
_SIGNED = {"latents_mean", "shift_factor"}


class _Misfit(Exception):
    """A value is not of the type of its field; the message says what it must be."""


def select(
    cls: type,
    data: Mapping[str, Any],
    neutral: Mapping[str, tuple[Any, ...]],
    foreign: Collection[str] = (),
) -> dict[str, Any]:
    """Return the entries of `data` that are fields of `cls`, as values of the fields' types.

    neutral: other keys, with the values that may be ignored. foreign: fields that a file of this
    kind does not have. Raises UnsupportedConfig for every other key, and for a value of another
    type or beyond its bounds.
    """
    known = {name: kinds for name, kinds in _field_types(cls).items() if name not in foreign}
    chosen: dict[str, Any] = {}
    for key, value in data.items():
        if key in known:
            try:
                chosen[key] = _converted(key, value, known[key])
            except _Misfit as error:
                raise UnsupportedConfig(f"{key}={_shown(value)}: {error}") from error
        elif not _is_neutral(key, value, neutral):
            raise UnsupportedConfig(f"{cls.__name__}: {key}={_shown(value)} is not supported")
    return chosen


def _is_neutral(key: str, value: object, neutral: Mapping[str, tuple[Any, ...]]) -> bool:
    """Return True for bookkeeping, a neutral value, or a list of those, one for each level."""
    if key.startswith("_") or key in BOOKKEEPING:
        return True
    allowed = neutral.get(key, (None,))
    if isinstance(value, list) and value and value not in allowed:
        return all(item in allowed for item in value)
    return value in allowed


@cache
def _field_types(cls: type) -> dict[str, tuple[Any, ...]]:
    """Return the types of each field: one, or those of its union."""
    hints = get_type_hints(cls)
    return {field.name: _alternatives(hints[field.name]) for field in fields(cls)}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


def _converted(key: str, value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return `value` as one of the types. Raises _Misfit."""
    if value is None:
        return _absent(kinds)
    if isinstance(value, list | tuple):
        return _list(key, value, kinds)
    return _scalar(key, value, kinds)


def _absent(kinds: tuple[Any, ...]) -> bool | None:
    if NoneType in kinds:
        return None
    if bool in kinds:
        return False  # as in the code that reads it
    raise _Misfit("a value is needed")


def _list(key: str, values: Sequence[Any], kinds: tuple[Any, ...]) -> Any:
    """Return a tuple, or, for a field of one value, the value that is repeated."""
    if not 1 <= len(values) <= _MAX_LENGTH:
        raise _Misfit(f"a list has 1 to {_MAX_LENGTH} values")
    for kind in kinds:
        if get_origin(kind) is tuple:
            items = _alternatives(get_args(kind)[0])
            return tuple(_item(key, value, items) for value in values)
    if any(value != values[0] for value in values):
        raise _Misfit("different values are not supported")
    return _scalar(key, values[0], kinds)


def _item(key: str, value: Any, kinds: tuple[Any, ...]) -> Any:
    """Return an entry of a list, which may be a list where its type allows one."""
    nests = any(get_origin(kind) is tuple for kind in kinds)
    if nests and isinstance(value, list | tuple):
        return _list(key, value, kinds)
    return _scalar(key, value, kinds)


def _scalar(key: str, value: Any, kinds: tuple[Any, ...]) -> Any:
    read = next((_READERS[kind] for kind in kinds if kind in _READERS), None)
    if read is None:
        raise _Misfit("must be a list")
    return read(key, value)


def _whole(key: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Misfit("must be a whole number")
    least, most = _BOUNDS.get(key, _ANY_SIZE)
    if not least <= value <= most:
        raise _Misfit(f"must be {least} to {most}")
    return value


def _number(key: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Misfit("must be a number")
    if key in _SIGNED and math.isfinite(value) and abs(value) < _ANY_SIZE[1]:
        return value
    if not (0 < value < _ANY_SIZE[1] and math.isfinite(value)):
        raise _Misfit(f"must be above 0 and below {_ANY_SIZE[1]}")
    return value


def _switch(key: str, value: Any) -> bool:
    if value not in (True, False):
        raise _Misfit("must be true or false")
    return bool(value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Misfit("must be text")
    return value


_READERS: Mapping[Any, Callable[[str, Any], Any]] = {
    int: _whole,
    float: _number,
    bool: _switch,
    str: _text,
}


def _shown(value: object, longest: int = 100) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}…"
