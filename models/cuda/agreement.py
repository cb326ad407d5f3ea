"""Which batch sizes give a row the same bits.

Libraries pick their kernels by the shape of a problem, and kernels that add in another order round
differently. The order does not depend on the numbers, so one run on random numbers tells: among the
many thousand outputs of a row, two orders would not round every one alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Run = Callable[..., Tensor]


def group_by_bits(runs: Mapping[int, Run], inputs: Sequence[Tensor]) -> list[frozenset[int]]:
    """The sizes of `runs`, grouped by the bits they give to a row, at whatever place it stands.

    `runs[n]` takes inputs of n rows; `inputs` have the rows of the largest. A size that gives a
    row other bits at another place in the batch is of no use and is in no group.
    """
    results: dict[int, Tensor] = {}
    for size, run in runs.items():
        out = run(*(t[:size] for t in inputs)).clone()
        moved = run(*(t[:size].roll(1, 0) for t in inputs)).roll(-1, 0)
        if torch.equal(_bits(out), _bits(moved)):
            results[size] = _bits(out)
    groups: list[list[int]] = []
    for size in sorted(results, reverse=True):
        for group in groups:
            rows = min(size, group[0])
            if torch.equal(results[size][:rows], results[group[0]][:rows]):
                group.append(size)
                break
        else:
            groups.append([size])
    return [frozenset(group) for group in groups]


def _bits(t: Tensor) -> Tensor:
    """As integers, so that a NaN equals itself and -0 is not 0."""
    widths = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return t.contiguous().view(widths[t.element_size()])
