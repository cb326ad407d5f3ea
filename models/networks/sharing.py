"""Networks that differ from another in a few weights and share the others in memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def with_weights(network: M, weights: Mapping[str, Tensor]) -> M:
    """Return a copy of `network` with these `weights`, by parameter name.

    It shares all other parameters and the kernels of its layers with `network`.
    """
    memo: dict[int, object] = {}
    for name, parameter in network.named_parameters():
        changed = weights.get(name)
        memo[id(parameter)] = (
            parameter if changed is None else nn.Parameter(changed, requires_grad=False)
        )
    return copy.deepcopy(network, memo)
