"""The UNet together with ControlNets: one network for each set of them."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor, nn

from models.executors.base import Network, Run, denoiser
from models.networks.controlnet import ControlNet
from models.networks.unet import AddedConditioning, UNet

MAX_NETS = 4  # ControlNets in all cached sets together: each is a third of a UNet

Nets = tuple[ControlNet, ...]


class _Denoise(nn.Module):
    def __init__(self, unet: UNet, nets: Nets) -> None:
        super().__init__()
        self.unet = unet
        self.nets = nn.ModuleList(nets)
        self._channels = unet.config.out_channels  # ControlNets take no further channels

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, *rest: Tensor) -> Tensor:
        """Run ControlNets and UNet.

        rest: the added conditioning, a hint for each net, and their weights (N, nets).
        """
        hints, weights = rest[-len(self.nets) - 1 : -1], rest[-1]
        added = AddedConditioning.of(self.unet.config, rest[: -len(self.nets) - 1])
        residuals = [
            net(x[:, : self._channels], timestep, context, hint, added).scaled(weight)
            for net, hint, weight in zip(self.nets, hints, weights.unbind(1), strict=True)
        ]
        out: Tensor = self.unet(x, timestep, context, added, reduce(operator.add, residuals))
        return out


def controlled(unet: UNet, nets: Nets) -> Network:
    """Return the network of a UNet with ControlNets.

    Its inputs are those of `denoiser`, then a hint (N, C0, h, w) for each net, then their weights
    (N, nets).
    """
    plain = denoiser(unet)

    def examples(rows: int) -> tuple[Tensor, ...]:
        inputs = plain.examples(rows)
        generator = torch.Generator().manual_seed(rows)
        shape = (rows, unet.config.block_out_channels[0], *inputs[0].shape[2:])
        hints = [torch.randn(shape, generator=generator).to(inputs[0]) for _ in nets]
        return *inputs, *hints, torch.ones(rows, len(nets)).to(inputs[0])

    free = (*plain.free, *((0, 2, 3) for _ in nets), (0,))
    return Network("controlled", _Denoise(unet, nets), examples, free)


class ControlledRuns:
    """Cache of the runs of one UNet with the latest sets of ControlNets."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Nets, Run] = OrderedDict()

    def get(self, unet: UNet, nets: Nets, run: Callable[[Network], Run]) -> Run:
        """Return the cached run, or the result of `run` on the network."""
        if nets not in self._kept:
            self._kept[nets] = run(controlled(unet, nets))
            while len(self._kept) > 1 and len({net for of in self._kept for net in of}) > MAX_NETS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(nets)
        return self._kept[nets]
