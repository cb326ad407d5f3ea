"""Groups of batch sizes that give a row the same bits.

Libraries select their kernels by the shape of a problem, and kernels that add in another order
round differently. The order does not depend on the numbers, so one run on random numbers is enough:
among the many thousand outputs of a row, two orders would not round every one alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Run = Callable[..., Tensor]


def group_by_bits(runs: Mapping[int, Run], inputs: Sequence[Tensor]) -> list[frozenset[int]]:
    """Group the sizes of `runs` by the bits of a row, at any position in the batch.

    `runs[n]` takes inputs of n rows; `inputs` have the rows of the largest. A size that gives a row
    other bits at another position in the batch is useless and is in no group.
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
    """Return the bits as integers, so that a NaN equals itself and -0 is not 0."""
    widths = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return t.contiguous().view(widths[t.element_size()])
