"""Exponential moving average of parameters, used as the weights of the trained model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """Averages of the parameters of several modules, saved and restored like an optimiser."""

    def __init__(self, modules: Iterable[nn.Module], decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.parameters = [p for module in modules for p in module.parameters()]
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the parameters, faster in the first steps."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and parameters; a second call undoes the first."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            previous = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(previous)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin the averages anew, at the present parameters."""
        self.steps = 0
        torch._foreach_copy_(self.averages, [p.detach() for p in self.parameters])

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the averages in place. Raises RuntimeError if shapes differ."""
        self.steps = state["steps"]
        averages: list[Tensor] = state["averages"]
        for average, saved in zip(self.averages, averages, strict=True):
            average.copy_(saved)
