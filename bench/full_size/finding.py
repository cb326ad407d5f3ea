"""Result of a network's comparison, and the helpers of all comparisons."""

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
    """Result of one network of a checkpoint.

    `parameters`: their number. `error`: relative error of the worst output. `at`: time of the
    comparison in ISO 8601.
    """

    checkpoint: str
    part: str
    parameters: int
    error: float
    seconds: float
    at: str


def random(*shape: int) -> Tensor:
    """Return a normal random tensor, always the same for the same shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def random_ids(vocabulary: int, length: int) -> Tensor:
    """Return random token ids (1, length) without the last entry of the vocabulary, CLIP's end."""
    return torch.randint(vocabulary - 2, (1, length), generator=torch.Generator())


def outputs(load: Callable[[], Any], run: Callable[[Any], Sequence[Tensor]]) -> list[Tensor]:
    """Load a network, return its outputs and free its memory."""
    network = load()
    computed = [out.clone() for out in run(network)]
    del network
    gc.collect()
    return computed


def worst(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Return the largest ‖ours − theirs‖ / ‖theirs‖ of all outputs.

    Raises:
        ValueError: two shapes differ.
    """
    pairs = list(zip(ours, theirs, strict=True))
    for mine, reference in pairs:
        if mine.shape != reference.shape:
            raise ValueError(f"{tuple(mine.shape)} is not {tuple(reference.shape)}")
    return max(float((mine - reference).norm() / reference.norm()) for mine, reference in pairs)
