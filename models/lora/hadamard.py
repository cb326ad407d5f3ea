"""LoHa: the change is the product, element by element, of two low-rank matrices.

Hyeon-Woo et al. 2022 ("FedPara"), proposition 1; for convolutions also with core tensors,
proposition 3. As in LyCORIS (Yeh et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

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

_FIRST = (TensorRole.HADA_W1_A, TensorRole.HADA_W1_B)
_SECOND = (TensorRole.HADA_W2_A, TensorRole.HADA_W2_B)
_CORES = (TensorRole.HADA_T1, TensorRole.HADA_T2)


@dataclass(frozen=True)
class Hadamard(MatrixChange):
    """scale · (w1_a @ w1_b) * (w2_a @ w2_b), or each with its core tensor t1, t2."""

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    scale: float
    t1: Tensor | None = None
    t2: Tensor | None = None

    roles = frozenset((*_FIRST, *_SECOND, *_CORES))

    @property
    def rows(self) -> int:
        return self.w1_a.shape[0 if self.t1 is None else 1]

    def delta(self, weight: Tensor) -> Tensor:
        first = _product(self.w1_a, self.w1_b, self.t1, weight)
        return first * _product(self.w2_a, self.w2_b, self.t2, weight) * self.scale

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape) -> bool:
        pairs = [shapes[role] for role in (*_FIRST, *_SECOND) if role in shapes]
        cores = [shapes[role] for role in _CORES if role in shapes]
        if len(pairs) != 4 or not are_matrices(pairs) or pairs[:2] != pairs[2:]:
            return False
        a, b = pairs[:2]
        if not cores:
            return a[1] == b[0] and (a[0], b[1]) == as_matrix(weight)
        core = (a[0], a[0], *weight[2:])
        return a[0] == b[0] and (a[1], b[1]) == weight[:2] and cores == [core, core]

    @classmethod
    def rank(cls, shapes: Shapes) -> int | None:
        return shapes[TensorRole.HADA_W1_B][0]

    @classmethod
    def of(cls, tensors: Tensors, scale: float) -> Self:
        (w1_a, w1_b), (w2_a, w2_b) = (
            [tensors[role] for role in pair] for pair in (_FIRST, _SECOND)
        )
        t1, t2 = (tensors.get(role) for role in _CORES)
        return cls(w1_a, w1_b, w2_a, w2_b, scale, t1, t2)


def _product(a: Tensor, b: Tensor, core: Tensor | None, weight: Tensor) -> Tensor:
    a, b = on(weight.device, a), on(weight.device, b)
    product = a @ b if core is None else with_core(on(weight.device, core), a, b)
    return product.reshape(weight.shape)
