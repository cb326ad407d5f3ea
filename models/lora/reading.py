"""Reading of LoRA files: the keys are resolved against a model's layers, then tensors are read.

Only safetensors files are opened. Every key must be understood: the error names each key that is
unknown, belongs to another kind of adapter or does not fit its layer, and nothing is merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.checkpoints.key_plan import Shape
from models.lora.errors import LoraError, Problems
from models.lora.factors import Factors, changed_shape, without_ones
from models.lora.layers import Layer, Layers
from models.lora.names import TensorRole, split, unsupported_adapter
from models.lora.peft_config import PeftConfigs

Keys = Mapping[TensorRole, str]  # the keys of one layer's change in a file

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Change:
    """The keys of one layer's change. scale: None if the file has a tensor `alpha` for it."""

    keys: Keys
    rank: int
    scale: float | None


@dataclass(frozen=True)
class LoRA:
    """A file's changes by layer."""

    name: str
    factors: Mapping[Layer, Factors]

    @property
    def nbytes(self) -> int:
        return sum(f.down.nbytes + f.up.nbytes for f in self.factors.values())


def check_lora(file: Path, layers: Layers) -> None:
    """Check the header of `file`. Raises LoraError like `read_lora`, but not for tensor values."""
    with _opened(file) as tensors:
        _changes(file, tensors, layers)


def read_lora(file: Path, layers: Layers) -> LoRA:
    """Return the changes that `file` makes to these layers. Raises LoraError."""
    with _opened(file) as tensors:
        changes = _changes(file, tensors, layers)
        factors = {layer: _factors(tensors, change) for layer, change in changes.items()}
    return LoRA(file.stem, factors)


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise LoraError(f"LoRA {file.stem} cannot be read: {error}") from error


def _changes(file: Path, tensors: Any, layers: Layers) -> dict[Layer, Change]:
    problems = Problems()
    grouped = _grouped(sorted(tensors.keys()), layers, problems)
    configs = PeftConfigs.of(file, tensors.metadata() or {})
    changes = {}
    for layer, keys in grouped.items():
        slices = {role: tensors.get_slice(key) for role, key in keys.items()}
        shapes = {role: tuple(one.get_shape()) for role, one in slices.items()}
        if any(
            one.get_dtype() not in _FLOATS
            for role, one in slices.items()
            if role != TensorRole.ALPHA
        ):
            problems.add("no floating-point numbers", next(iter(keys.values())))
        elif wrong := _misfit(shapes, layers.shapes[layer]):
            problems.add(wrong, next(iter(keys.values())))
        else:
            rank = shapes[TensorRole.DOWN][0]
            scale = None if TensorRole.ALPHA in keys else configs.scale(layer, rank)
            changes[layer] = Change(keys, rank, scale)
    if not grouped:
        problems.add("it holds", "no LoRA keys")
    problems.raise_if_any(file.stem)
    return changes


def _grouped(keys: list[str], layers: Layers, problems: Problems) -> dict[Layer, Keys]:
    grouped: dict[Layer, dict[TensorRole, str]] = {}
    for key in keys:
        name, role = split(key) or (None, None)
        layer = layers.named.get(name) if name else None
        if kind := unsupported_adapter(key):
            problems.add(f"{kind} is not supported", key)
        elif role is None or name not in layers.named:
            problems.add("keys of no layer of this model", key)
        elif layer is None:
            problems.add("keys that could mean either of two layers", key)
        elif role in grouped.setdefault(layer, {}):
            problems.add("layers changed twice", key)
        else:
            grouped[layer][role] = key
    return dict(grouped)


def _misfit(shapes: Mapping[TensorRole, Shape], weight: Shape) -> str | None:
    """Return the reason a change with these shapes does not fit a weight, or None if it fits."""
    if TensorRole.DOWN not in shapes or TensorRole.UP not in shapes:
        return "changes without both factors"
    down, up = shapes[TensorRole.DOWN], shapes[TensorRole.UP]
    if changed_shape(down, up, shapes.get(TensorRole.MID)) != without_ones(weight):
        return f"shapes that do not fit, {down} and {up} for a weight of {weight}"
    if math.prod(shapes.get(TensorRole.ALPHA, ())) != 1:
        return "alphas that are no number"
    return None


def _factors(tensors: Any, change: Change) -> Factors:
    """Read the tensors of a change. Raises LoraError for values that are not finite."""
    read: dict[TensorRole, Tensor] = {
        role: tensors.get_tensor(key) for role, key in change.keys.items()
    }
    for role, tensor in read.items():
        if not tensor.isfinite().all():
            raise LoraError(f"LoRA: {change.keys[role]} holds numbers that are not finite")
    scale = change.scale
    if scale is None:
        scale = float(read[TensorRole.ALPHA].double().item()) / change.rank
    return Factors(read[TensorRole.DOWN], read[TensorRole.UP], scale, read.get(TensorRole.MID))
