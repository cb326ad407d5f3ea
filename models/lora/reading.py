"""LoRA files: the header is resolved against a model's own layers, then the numbers are read.

Only safetensors files are opened. Every key must be understood: what is left over, what belongs to
another kind of adapter, and what does not fit its layer is named, and nothing is merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.lora.errors import Complaints, LoraError
from models.lora.factors import Factors, Shape, changed_shape, plain
from models.lora.layers import Layer, Layers
from models.lora.names import Part, other_kind, split
from models.lora.peft_config import PeftConfigs

Keys = Mapping[Part, str]  # of one layer's change, in a file

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Change:
    """Where a file keeps the change of one layer. scale is None where a tensor, alpha, says it."""

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


def check(file: Path, layers: Layers) -> None:
    """Read the header only. Raises LoraError where `read` would, but for the values of numbers."""
    with _opened(file) as tensors:
        _changes(file, tensors, layers)


def read(file: Path, layers: Layers) -> LoRA:
    """The changes that `file` makes to these layers. Raises LoraError."""
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
    complaints = Complaints()
    grouped = _grouped(sorted(tensors.keys()), layers, complaints)
    told = PeftConfigs.of(file, tensors.metadata() or {})
    changes = {}
    for layer, keys in grouped.items():
        slices = {part: tensors.get_slice(key) for part, key in keys.items()}
        shapes = {part: tuple(one.get_shape()) for part, one in slices.items()}
        if any(s.get_dtype() not in _FLOATS for part, s in slices.items() if part != Part.ALPHA):
            complaints.add("no floating-point numbers", next(iter(keys.values())))
        elif wrong := _misfit(shapes, layers.shapes[layer]):
            complaints.add(wrong, next(iter(keys.values())))
        else:
            rank = shapes[Part.DOWN][0]
            scale = None if Part.ALPHA in keys else told.scale(layer, rank)
            changes[layer] = Change(keys, rank, scale)
    if not grouped:
        complaints.add("it holds", "no LoRA keys")
    complaints.tell(file.stem)
    return changes


def _grouped(keys: list[str], layers: Layers, complaints: Complaints) -> dict[Layer, Keys]:
    grouped: dict[Layer, dict[Part, str]] = {}
    for key in keys:
        name, part = split(key) or (None, None)
        layer = layers.named.get(name) if name else None
        if kind := other_kind(key):
            complaints.add(f"{kind} is not supported", key)
        elif part is None or name not in layers.named:
            complaints.add("keys of no layer of this model", key)
        elif layer is None:
            complaints.add("keys that could mean either of two layers", key)
        elif part in grouped.setdefault(layer, {}):
            complaints.add("layers changed twice", key)
        else:
            grouped[layer][part] = key
    return dict(grouped)


def _misfit(shapes: Mapping[Part, Shape], weight: Shape) -> str | None:
    """What keeps a change with parts of these shapes from that weight, if anything does."""
    if Part.DOWN not in shapes or Part.UP not in shapes:
        return "changes without both factors"
    down, up = shapes[Part.DOWN], shapes[Part.UP]
    if changed_shape(down, up, shapes.get(Part.MID)) != plain(weight):
        return f"shapes that do not fit, {down} and {up} for a weight of {weight}"
    if math.prod(shapes.get(Part.ALPHA, ())) != 1:
        return "alphas that are no number"
    return None


def _factors(tensors: Any, change: Change) -> Factors:
    """Raises LoraError for numbers that would spoil every picture."""
    parts: dict[Part, Tensor] = {p: tensors.get_tensor(key) for p, key in change.keys.items()}
    for part, tensor in parts.items():
        if not tensor.isfinite().all():
            raise LoraError(f"LoRA: {change.keys[part]} holds numbers that are not finite")
    scale = change.scale
    if scale is None:
        scale = float(parts[Part.ALPHA].double().item()) / change.rank
    return Factors(parts[Part.DOWN], parts[Part.UP], scale, parts.get(Part.MID))
