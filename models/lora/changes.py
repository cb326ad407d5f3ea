"""The changes of one weight by a LoRA file: how much each adds to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Self

import torch
from torch import Tensor

from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.adapters import TensorRole

Shapes = Mapping[TensorRole, Shape]
Tensors = Mapping[TensorRole, Tensor]


@dataclass(frozen=True)
class Change(ABC):
    """A change of a weight, at full strength."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """The rows of the weight that are changed, from the first."""

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """Return what is added to `weight` (`rows`, …): float32, on its device, in its shape."""


class MatrixChange(Change):
    """A change of a matrix or kernel that is made of several tensors of a file, by role.

    `roles`: those that it may have. It is scaled by alpha / rank.
    """

    roles: ClassVar[frozenset[TensorRole]]

    @classmethod
    @abstractmethod
    def fits(cls, shapes: Shapes, weight: Shape) -> bool:
        """Return True if tensors of these shapes are a whole change of a weight of that shape."""

    @classmethod
    @abstractmethod
    def rank(cls, shapes: Shapes) -> int | None:
        """Return the rank by which alpha is divided; None if alpha has no effect."""

    @classmethod
    @abstractmethod
    def of(cls, tensors: Tensors, scale: float) -> Self:
        """Return the change of tensors that fit."""


@dataclass(frozen=True)
class Difference(MatrixChange):
    """A full difference of a weight or bias, times `scale`."""

    tensor: Tensor
    scale: float = 1.0

    roles = frozenset({TensorRole.WEIGHT})

    @property
    def rows(self) -> int:
        return len(self.tensor)

    def delta(self, weight: Tensor) -> Tensor:
        return on(weight.device, self.tensor).reshape(weight.shape) * self.scale

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape) -> bool:
        return without_ones(shapes[TensorRole.WEIGHT]) == without_ones(weight)

    @classmethod
    def rank(cls, shapes: Shapes) -> int | None:
        return None

    @classmethod
    def of(cls, tensors: Tensors, scale: float) -> Self:
        return cls(tensors[TensorRole.WEIGHT], scale)


@dataclass(frozen=True)
class Replacement(Change):
    """Values that a bias has at full strength."""

    tensor: Tensor

    @property
    def rows(self) -> int:
        return len(self.tensor)

    def delta(self, weight: Tensor) -> Tensor:
        return on(weight.device, self.tensor) - weight.float()


def on(device: torch.device, tensor: Tensor) -> Tensor:
    """Return `tensor` in float32 on `device`."""
    return tensor.to(device, torch.float32)


def with_core(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return the kernel (O, I, kh, kw) of a (r, O), b (r, I) and their core (r, r, kh, kw)."""
    inner = torch.einsum("ijhw,jq->iqhw", core, b)  # (r, I, kh, kw)
    return (a.T @ inner.flatten(1)).reshape(a.shape[1], *inner.shape[1:])


def without_ones(shape: Shape) -> Shape:
    """Return a 1×1 convolution's shape (O, I, 1, 1) as that of a linear layer, (O, I)."""
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def as_matrix(shape: Shape) -> Shape:
    """Return (O, I · kh · kw) of a weight (O, I, kh, kw)."""
    return shape[0], prod(shape[1:])


def are_matrices(shapes: Iterable[Shape]) -> bool:
    """Return True if all are of two sides, none of them 0."""
    return all(len(shape) == 2 and 0 not in shape for shape in shapes)
