"""One recorded network for all variants of a model: their weights are put into its memory in turn.

A graph reads its weights where they were when it was recorded. To record graphs for every variant
would take seconds and memory for each; to copy the weights that differ takes about as long as
reading them twice. The model itself has graphs and memory of its own, which nobody writes to.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.executors.base import Network, Run
from models.networks.sharing import with_weights


class WeightSwap:
    """A network with memory of its own for every matrix and kernel, and what runs it there."""

    def __init__(self, network: Network, record: Callable[[nn.Module], Run]) -> None:
        """Biases and norms stay shared with `network`: no LoRA changes them."""
        own = {
            name: parameter.clone()
            for name, parameter in network.module.named_parameters()
            if parameter.ndim > 1
        }
        module = with_weights(network.module, own)
        self._memory = {name: module.get_parameter(name) for name in own}
        # What each was copied from; a variant that has gone is not kept alive for it.
        self._loaded: dict[str, weakref.ref[Tensor]] = {
            name: weakref.ref(network.module.get_parameter(name)) for name in self._memory
        }
        self.run = record(module)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """From now on the network computes with these, by parameter name."""
        stale = [name for name, loaded in self._loaded.items() if loaded() is not weights[name]]
        if not stale:
            return
        torch._foreach_copy_([self._memory[n] for n in stale], [weights[n] for n in stale])
        for name in stale:
            self._loaded[name] = weakref.ref(weights[name])


class SwappedRun:
    """One variant: its weights are on the stage whenever it runs."""

    def __init__(self, swap: WeightSwap, network: Network) -> None:
        self._swap = swap
        self._weights = dict(network.module.named_parameters())

    @property
    def rows_run(self) -> int:
        """Of all variants together, padding included."""
        rows: int = getattr(self._swap.run, "rows_run", 0)
        return rows

    def __call__(self, *inputs: Tensor) -> Tensor:
        self._swap.load(self._weights)
        return self._swap.run(*inputs)
