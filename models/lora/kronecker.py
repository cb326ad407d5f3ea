"""LoKr: the change is the Kronecker product of a small matrix and a larger one.

LyCORIS (Yeh et al. 2024), section 3.3. Each of the two is whole or of low rank, and the larger one
of a convolution may have a core tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.adapters import TensorRole
from models.lora.changes import (
    MatrixChange,
    Shapes,
    Tensors,
    are_matrices,
    as_matrix,
    on,
    with_core,
)

_FIRST = (TensorRole.LOKR_W1_A, TensorRole.LOKR_W1_B)
_SECOND = (TensorRole.LOKR_W2_A, TensorRole.LOKR_W2_B)


@dataclass(frozen=True)
class Kronecker(MatrixChange):
    """scale · first ⊗ second; each the product of its tensors.

    first: (O1, I1), or (O1, r) and (r, I1). second: (O2, I2, …), or (O2, r) and (r, I2 · …), or
    (r, O2) and (r, I2) with `core` (r, r, kh, kw).
    """

    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    scale: float
    core: Tensor | None = None

    roles = frozenset(
        (*_FIRST, *_SECOND, TensorRole.LOKR_W1, TensorRole.LOKR_W2, TensorRole.LOKR_T2)
    )

    @property
    def rows(self) -> int:
        return len(self.first[0]) * self.second[0].shape[0 if self.core is None else 1]

    def delta(self, weight: Tensor) -> Tensor:
        first, second = (
            [on(weight.device, tensor) for tensor in tensors]
            for tensors in (self.first, self.second)
        )
        if self.core is not None:
            larger = with_core(on(weight.device, self.core), *second)
        else:
            larger = second[0] if len(second) == 1 else second[0] @ second[1].flatten(1)
        smaller = first[0] if len(first) == 1 else first[0] @ first[1]
        return torch.kron(self.scale * smaller, larger.flatten(1)).reshape(weight.shape)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape) -> bool:
        first = _matrix(shapes, TensorRole.LOKR_W1, _FIRST)
        core = shapes.get(TensorRole.LOKR_T2)
        if core is None:
            second = _matrix(shapes, TensorRole.LOKR_W2, _SECOND)
        else:
            second = _matrix_with_core(shapes, core, weight[2:])
        if first is None or second is None:
            return False
        return (first[0] * second[0], first[1] * second[1]) == as_matrix(weight)

    @classmethod
    def rank(cls, shapes: Shapes) -> int | None:
        of_rank = (shapes[role][0] for _, role in (_SECOND, _FIRST) if role in shapes)
        return next(of_rank, None)

    @classmethod
    def of(cls, tensors: Tensors, scale: float) -> Self:
        first = _tensors(tensors, TensorRole.LOKR_W1, _FIRST)
        second = _tensors(tensors, TensorRole.LOKR_W2, _SECOND)
        return cls(first, second, scale, tensors.get(TensorRole.LOKR_T2))


def _tensors(
    tensors: Tensors, whole: TensorRole, pair: tuple[TensorRole, TensorRole]
) -> tuple[Tensor, ...]:
    return (tensors[whole],) if whole in tensors else tuple(tensors[role] for role in pair)


def _matrix(shapes: Shapes, whole: TensorRole, pair: tuple[TensorRole, TensorRole]) -> Shape | None:
    """Return the shape of one of the two as a matrix; None if its tensors are not exactly that."""
    given = [shapes[role] for role in pair if role in shapes]
    if whole in shapes:
        shape = shapes[whole]
        return as_matrix(shape) if not given and len(shape) >= 2 and 0 not in shape else None
    if len(given) != 2 or any(len(shape) < 2 or 0 in shape for shape in given):
        return None
    a, b = given[0], as_matrix(given[1])
    return (a[0], b[1]) if len(a) == 2 and a[1] == b[0] else None


def _matrix_with_core(shapes: Shapes, core: Shape, kernel: Shape) -> Shape | None:
    given = [shapes[role] for role in _SECOND if role in shapes]
    if len(given) != 2 or not are_matrices(given) or TensorRole.LOKR_W2 in shapes:
        return None
    (r, out), (also_r, inside) = given
    return as_matrix((out, inside, *kernel)) if core == (r, also_r, *kernel) else None
