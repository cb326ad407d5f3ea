"""Gradients of a batch, computed in parts by several threads.

The threads of one operator wait for each other thousands of times a step; with other work on the
same cores that costs most of the speed (measured: two threads ran at a fifth of one).
Threads for whole parts of a batch wait once a step. Parts are added in a fixed order, so the number
of threads and their speed change no bit of the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

LossOfPart = Callable[[], Tensor]


class PartialGradients:
    """Mean loss and gradient over equal parts of a batch, computed on all cores."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.pool = ThreadPoolExecutor(
            os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)
        )

    def backward(self, parts: Sequence[LossOfPart]) -> float:
        """Set every `.grad` to the gradient of the mean of all parts' losses; return that mean."""
        for parameter in self.parameters:
            # Same memory layout as the parameter, as the fused optimiser expects.
            parameter.grad = torch.zeros_like(parameter)
        total = 0.0
        for loss, gradients in self.pool.map(self._part, parts):
            total += float(loss)
            grads = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            torch._foreach_add_(grads, gradients, alpha=1 / len(parts))
        return total / len(parts)

    def _part(self, loss_of_part: LossOfPart) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss = loss_of_part()
        return loss.detach(), torch.autograd.grad(loss, self.parameters)
