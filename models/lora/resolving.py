"""The keys of a LoRA file, resolved against a model's layers by their names and shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.adapters import (
    BUNDLED,
    TensorRole,
    split,
    split_bias,
    unsupported_adapter,
)
from models.lora.changes import Difference, MatrixChange, Shapes
from models.lora.dora import MAGNITUDES, magnitude_axis
from models.lora.errors import Problems
from models.lora.factors import Factors
from models.lora.hadamard import Hadamard
from models.lora.kronecker import Kronecker
from models.lora.layers import Layer, Layers, Parameter
from models.lora.peft_config import PeftConfigs

Keys = Mapping[TensorRole, str]  # the keys of one layer's change in a file

_FLOATS = ("F64", "F32", "F16", "BF16")
_KINDS: tuple[type[MatrixChange], ...] = (Factors, Hadamard, Kronecker, Difference)
# The parameters of a layer that have a tensor of their own in a file.
_OWN = {
    TensorRole.WEIGHT: "weight",
    TensorRole.BIAS: "bias",
    TensorRole.UP_BIAS: "bias",
    TensorRole.NEW_BIAS: "bias",
}


@dataclass(frozen=True)
class MatrixKeys:
    """The keys of the change of a layer's matrix or kernel.

    axis: of the learned lengths of DoRA, 0 for rows and 1 for columns; None without.
    """

    kind: type[MatrixChange]
    keys: Keys
    scale: float
    axis: int | None = None


@dataclass(frozen=True)
class VectorKey:
    """The key of the change of a bias, or of the weight of a norm.

    scale: by which it is multiplied; None if it replaces the vector.
    """

    key: str
    scale: float | None = 1.0


@dataclass(frozen=True)
class Resolved:
    """The keys of all changes, and of the bundled embeddings by word and part."""

    matrices: Mapping[Layer, MatrixKeys]
    vectors: Mapping[Parameter, VectorKey]
    embeddings: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _Context:
    """An open file, and what its keys are compared with."""

    tensors: Any
    layers: Layers
    configs: PeftConfigs
    problems: Problems


def resolve(file: Path, tensors: Any, layers: Layers) -> Resolved:
    """Return the keys of an open file by what they change. Raises LoraError that names the others.

    Only the header and the numbers `alpha` are read.
    """
    problems = Problems()
    context = _Context(tensors, layers, PeftConfigs.of(file, tensors.metadata() or {}), problems)
    keys = sorted(tensors.keys())
    bundled = [key for key in keys if BUNDLED.fullmatch(key)]
    grouped = _grouped([key for key in keys if not BUNDLED.fullmatch(key)], context)
    matrices: dict[Layer, MatrixKeys] = {}
    vectors: dict[Parameter, VectorKey] = {}
    for layer, of_layer in grouped.items():
        shapes = _shapes(tensors, of_layer, problems)
        if (matrix := _matrix(layer, of_layer, shapes, context)) is not None:
            matrices[layer] = matrix
        scale = 1.0 if matrix is None else matrix.scale
        vectors |= _vectors(layer, of_layer, shapes, scale, context)
    if not grouped:
        problems.add("it holds", "no LoRA keys")
    problems.raise_if_any(file.stem)
    return Resolved(matrices, vectors, _by_word(bundled))


def _grouped(keys: list[str], context: _Context) -> dict[Layer, Keys]:
    layers, problems = context.layers, context.problems
    grouped: dict[Layer, dict[TensorRole, str]] = {}
    for key in keys:
        parts = split(key) or (split_bias(key) if context.configs.with_biases else None)
        name, role = parts or (None, None)
        layer = layers.named.get(name) if name else None
        if kind := unsupported_adapter(key):
            problems.add(f"{kind} is not supported", key)
        elif name in layers.unused:
            continue
        elif role is None or name not in layers.named:
            problems.add("keys of no layer of this model", key)
        elif layer is None:
            problems.add("keys that could mean either of two layers", key)
        elif role in grouped.setdefault(layer, {}):
            problems.add("layers changed twice", key)
        else:
            grouped[layer][role] = key
    return dict(grouped)


def _shapes(tensors: Any, keys: Keys, problems: Problems) -> dict[TensorRole, Shape]:
    shapes: dict[TensorRole, Shape] = {}
    for role, key in keys.items():
        one = tensors.get_slice(key)
        shapes[role] = tuple(one.get_shape())
        if role != TensorRole.ALPHA and one.get_dtype() not in _FLOATS:
            problems.add("no floating-point numbers", key)
    return shapes


def _matrix(layer: Layer, keys: Keys, shapes: Shapes, context: _Context) -> MatrixKeys | None:
    """Return the keys of the change of a layer's matrix, if there is one that fits."""
    weight = context.layers.shapes.get(layer)
    parts = {role: key for role, key in keys.items() if not _is_vector(role, weight)}
    if not parts:
        return None
    first = next(iter(parts.values()))
    if weight is None:
        context.problems.add("low-rank changes of a norm", first)
        return None
    kind, wrong = _kind(parts, shapes, weight)
    lengths = [shapes[role] for role in MAGNITUDES if role in shapes]
    axis = magnitude_axis(shapes, weight) if len(lengths) == 1 else None
    if lengths and axis is None:
        wrong = wrong or f"lengths of DoRA that do not fit, {lengths[0]} for a weight of {weight}"
    elif not lengths and kind is Factors and context.configs.uses_dora(layer):
        wrong = wrong or "changes without the lengths of DoRA"
    rank = kind.rank(shapes) if kind is not None and not wrong else None
    scale = _scale(layer, parts, rank, context)
    if not math.isfinite(scale):
        wrong = wrong or "numbers that are not finite"
    if kind is None or wrong:
        context.problems.add(wrong, first)
        return None
    return MatrixKeys(kind, parts, scale, axis)


def _is_vector(role: TensorRole, weight: Shape | None) -> bool:
    """Return True for the change of a vector; `weight` is None for a norm, whose weight is one."""
    return role in _OWN and (role is not TensorRole.WEIGHT or weight is None)


def _scale(layer: Layer, parts: Keys, rank: int | None, context: _Context) -> float:
    """Return alpha / rank, with the alpha of the file or of PEFT's configuration."""
    if rank is None or TensorRole.ALPHA not in parts:
        return context.configs.scale(layer, rank)
    return float(context.tensors.get_tensor(parts[TensorRole.ALPHA]).double().item()) / rank


def _kind(parts: Keys, shapes: Shapes, weight: Shape) -> tuple[type[MatrixChange] | None, str]:
    """Return the kind of a change, and what is wrong with its shapes, or ""."""
    kinds = [kind for kind in _KINDS if kind.roles & parts.keys()]
    if len(kinds) != 1:
        return None, "changes of two kinds" if kinds else "changes without their factors"
    [kind] = kinds
    if kind is Factors and not {TensorRole.DOWN, TensorRole.UP} <= parts.keys():
        return kind, "changes without both factors"
    if not kind.fits(shapes, weight):
        given = ", ".join(str(shapes[role]) for role in parts if role in kind.roles)
        return kind, f"shapes that do not fit, {given} for a weight of {weight}"
    if math.prod(shapes.get(TensorRole.ALPHA, ())) != 1:
        return kind, "alphas that are no number"
    return kind, ""


def _vectors(
    layer: Layer, keys: Keys, shapes: Shapes, scale: float, context: _Context
) -> Iterator[tuple[Parameter, VectorKey]]:
    """Yield the keys of the changes of a layer's vectors, by parameter."""
    component, path = layer
    problems, taken = context.problems, set[Parameter]()
    for role, key in keys.items():
        if not _is_vector(role, context.layers.shapes.get(layer)):
            continue
        parameter = component, f"{path}.{_OWN[role]}"
        size = context.layers.vectors.get(parameter)
        if size is None:
            problems.add(f"the layer has no {_OWN[role]}", key)
        elif size != shapes[role]:
            problems.add(f"shapes that do not fit, {shapes[role]} for {size}", key)
        elif parameter in taken:
            problems.add("layers changed twice", key)
        else:
            taken.add(parameter)
            scales = {TensorRole.UP_BIAS: scale, TensorRole.NEW_BIAS: None}
            yield parameter, VectorKey(key, scales.get(role, 1.0))


def _by_word(keys: list[str]) -> dict[str, dict[str, str]]:
    """Return the keys of bundled embeddings by word and part."""
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        if match := BUNDLED.fullmatch(key):
            found.setdefault(match["word"], {})[match["part"]] = key
    return found
