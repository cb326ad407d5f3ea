"""Key plans: the source of each of our parameters in a file of another spelling.

A *key plan* gives, for each parameter by the name in our networks, the key in the file and the cut
of that tensor. It is made from the file's key list alone. The cuts work on torch tensors, on numpy
arrays, and on arrays without memory, which give shapes before a weight is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.checkpoints.errors import CheckpointError

Shape = tuple[int, ...]
# torch.Tensor -> torch.Tensor or numpy.ndarray -> numpy.ndarray, always a view.
Cut = Callable[[Any], Any]
KeyPlan = dict[str, "KeySource"]


def whole(array: Any) -> Any:
    """Return the tensor unchanged."""
    return array


def transposed(array: Any) -> Any:
    """Return the transpose of a matrix."""
    return array.T


def as_matrix(array: Any) -> Any:
    """Return the weight (O, I, 1[, 1]) of a 1×1 convolution as a matrix (O, I)."""
    return array.reshape(array.shape[:2])


def third(index: int) -> Cut:
    """Return the cut for query (0), key (1) or value (2) of three matrices stacked by rows."""

    def cut(array: Any) -> Any:
        rows = array.shape[0] // 3
        return array[index * rows : (index + 1) * rows]

    return cut


def head_third(index: int, heads: Callable[[int], int]) -> Cut:
    """Return the cut for query, key or value of a `qkv` whose rows are ordered by head, then q/k/v.

    This is the order of QKVAttentionLegacy in openaimodel.py of CompVis/latent-diffusion. `heads`
    gives the number of heads for a number of channels. (3·C, C, 1) -> (C, C), and (3·C,) -> (C,).
    """

    def cut(array: Any) -> Any:
        channels = array.shape[0] // 3
        count = heads(channels)
        rest = array.shape[1:2]
        by_head = array.reshape((count, 3, channels // count, *rest))
        return by_head[:, index].reshape((channels, *rest))

    return cut


@dataclass(frozen=True)
class KeySource:
    """The source of one parameter: a key of the file, and the cut of that tensor."""

    key: str
    cut: Cut = whole

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape of the parameter, given the shapes of the file's tensors.

        Raises CheckpointError for a tensor that cannot be cut.
        """
        shape = shapes[self.key]
        try:
            return tuple(self.cut(np.broadcast_to(np.uint8(0), shape)).shape)
        except (ArithmeticError, LookupError, ValueError) as error:
            raise CheckpointError(f"{self.key} has shape {shape}, which does not fit") from error


def prefixed(plan: KeyPlan, prefix: str) -> KeyPlan:
    """Return the same plan for keys that begin with `prefix` in the file."""
    return {name: replace(source, key=prefix + source.key) for name, source in plan.items()}


def below(prefix: str, keys: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the tensors whose keys begin with `prefix`, by the rest of their keys."""
    return {key[len(prefix) :]: shape for key, shape in keys.items() if key.startswith(prefix)}


def shapes_of(plan: KeyPlan, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shape of each parameter of `plan`, given the shapes of the file's tensors."""
    return {name: source.shape(shapes) for name, source in plan.items()}
