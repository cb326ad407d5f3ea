"""Where a parameter comes from in a file of another spelling.

A *plan* gives, for each parameter by the name our networks have for it, the key of the file and
what is cut out of that tensor. It is made from the file's key list alone; the cuts work on torch
tensors, on numpy arrays, and (for shapes, before a weight is read) on arrays without memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Shape = tuple[int, ...]
# torch.Tensor -> torch.Tensor or numpy.ndarray -> numpy.ndarray, always a view.
Cut = Callable[[Any], Any]
Plan = dict[str, "Part"]


def whole(array: Any) -> Any:
    """The tensor as it is."""
    return array


def transposed(array: Any) -> Any:
    """A matrix stored the other way round."""
    return array.T


def as_matrix(array: Any) -> Any:
    """The matrix (O, I) of a convolution with a kernel of one pixel, (O, I, 1[, 1])."""
    return array.reshape(array.shape[:2])


def third(index: int) -> Cut:
    """The first, second or third part of stacked rows: query, key and value of one matrix."""

    def cut(array: Any) -> Any:
        rows = array.shape[0] // 3
        return array[index * rows : (index + 1) * rows]

    return cut


def head_third(index: int, heads: Callable[[int], int]) -> Cut:
    """Query, key or value of a `qkv` whose rows go by heads first, then by the three.

    The order of QKVAttentionLegacy in openaimodel.py of CompVis/latent-diffusion. `heads` says how
    many there are for so many channels. (3·C, C, 1) -> (C, C), and (3·C,) -> (C,).
    """

    def cut(array: Any) -> Any:
        channels = array.shape[0] // 3
        count = heads(channels)
        rest = array.shape[1:2]
        by_head = array.reshape((count, 3, channels // count, *rest))
        return by_head[:, index].reshape((channels, *rest))

    return cut


@dataclass(frozen=True)
class Part:
    """What is cut out of the tensor that the file calls `key`."""

    key: str
    cut: Cut = whole

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """The shape of this part, given those of the file's tensors."""
        return tuple(self.cut(np.broadcast_to(np.uint8(0), shapes[self.key])).shape)


def prefixed(plan: Plan, prefix: str) -> Plan:
    """The same plan for keys that begin with `prefix` in the file."""
    return {name: replace(part, key=prefix + part.key) for name, part in plan.items()}


def below(prefix: str, keys: Mapping[str, Shape]) -> dict[str, Shape]:
    """The tensors whose keys begin with `prefix`, without it."""
    return {key[len(prefix) :]: shape for key, shape in keys.items() if key.startswith(prefix)}


def shapes_of(plan: Plan, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of the parameters that `plan` makes out of a file's tensors."""
    return {name: part.shape(shapes) for name, part in plan.items()}
