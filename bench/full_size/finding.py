"""What is told of a network, and how two of them are compared."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Finding:
    """One network of a checkpoint. `parameters` in all; `error` relative, of its worst output.

    `at`: when it was computed, as ISO 8601 says it.
    """

    checkpoint: str
    part: str
    parameters: int
    error: float
    seconds: float
    at: str


def random(*shape: int) -> Tensor:
    """The same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def random_ids(vocabulary: int, length: int) -> Tensor:
    """Tokens (1, length), of which the last entry of the vocabulary, CLIP's end, is none."""
    return torch.randint(vocabulary - 2, (1, length), generator=torch.Generator())


def outputs(load: Callable[[], Any], run: Callable[[Any], Sequence[Tensor]]) -> list[Tensor]:
    """What a network computes, which is in memory only for so long."""
    network = load()
    computed = [out.clone() for out in run(network)]
    del network
    gc.collect()
    return computed


def worst(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The largest ‖ours − theirs‖ / ‖theirs‖ of all outputs.

    Raises ValueError where shapes differ.
    """
    pairs = list(zip(ours, theirs, strict=True))
    for mine, reference in pairs:
        if mine.shape != reference.shape:
            raise ValueError(f"{tuple(mine.shape)} is not {tuple(reference.shape)}")
    return max(float((mine - reference).norm() / reference.norm()) for mine, reference in pairs)
