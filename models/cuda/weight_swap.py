"""One recorded network for all merged models: their weights are copied into its memory in turn.

A graph reads its weights where they were when it was recorded. To record graphs for every merged
model would take seconds and memory for each; to copy the weights that differ takes about as long as
reading them twice. The model itself has its own graphs and memory, which are never overwritten.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.executors.base import Network, Run
from models.networks.sharing import with_weights


class WeightSwap:
    """A network with its own memory for every parameter, and its run."""

    def __init__(self, network: Network, record: Callable[[nn.Module], Run]) -> None:
        own = {name: parameter.clone() for name, parameter in network.module.named_parameters()}
        module = with_weights(network.module, own)
        self._memory = {name: module.get_parameter(name) for name in own}
        # The source of each copy, as a weak reference: a deleted model is not kept in memory.
        self._loaded: dict[str, weakref.ref[Tensor]] = {
            name: weakref.ref(network.module.get_parameter(name)) for name in self._memory
        }
        self.run = record(module)

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Let the network compute with these weights, by parameter name, from now on."""
        stale = [name for name, loaded in self._loaded.items() if loaded() is not weights[name]]
        if not stale:
            return
        torch._foreach_copy_([self._memory[n] for n in stale], [weights[n] for n in stale])
        for name in stale:
            self._loaded[name] = weakref.ref(weights[name])


class SwappedRun:
    """The run of one merged model: its weights are loaded before every call."""

    def __init__(self, swap: WeightSwap, network: Network) -> None:
        self._swap = swap
        self._weights = dict(network.module.named_parameters())

    @property
    def rows_run(self) -> int:
        """Return the rows of all merged models together, padding included."""
        rows: int = getattr(self._swap.run, "rows_run", 0)
        return rows

    def __call__(self, *inputs: Tensor) -> Tensor:
        self._swap.load(self._weights)
        return self._swap.run(*inputs)
