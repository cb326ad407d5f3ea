"""Eager PyTorch, padded so that a row has the same bits in every batch.

On a CPU three things depend on the number of rows: a single image takes another path through the
convolutions, those of 1 x 1 pixels take another with one thread, and small matrix products switch
kernels. So a single row is duplicated, convolutions of 1 x 1 pixels are marked as dilated, and the
time embedding is computed on a fixed number of rows. The autoencoder runs on images one by one,
which costs nothing: its time is proportional to their number.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from models.autoencoders.first_stage import FirstStage
from models.executors.base import Executors, Network, Run, decoder, denoiser, encoder
from models.networks.layers import RowLinear, dilated, pointwise_convolutions, row_multiple
from models.networks.unet import UNet

EMBEDDED_ROWS = 32  # from this number on matrix products on a CPU use one kernel


class Eager:
    """Calls the module; with `same_bytes` so that a row does not depend on the number of others."""

    def __init__(self, network: Network, *, same_bytes: bool) -> None:
        self._module = network.module
        self._same_bytes = same_bytes
        self._embeddings = [m for m in network.module.modules() if isinstance(m, RowLinear)]
        self._pointwise = pointwise_convolutions(network.module)
        self.rows_run = 0  # since the start, padding included

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        rows = len(inputs[0])
        self.rows_run += max(rows, 2) if self._same_bytes else rows
        if not self._same_bytes:
            out: Tensor = self._module(*inputs)
            return out
        if rows == 1:
            inputs = tuple(t.expand(2, *t.shape[1:]) for t in inputs)
        pointwise = self._pointwise if inputs[0].is_cpu else []
        with row_multiple(self._embeddings, EMBEDDED_ROWS), dilated(pointwise):
            out = self._module(*inputs)
        return out[:rows]

    def with_weights(self, network: Network) -> Run:
        return Eager(network, same_bytes=self._same_bytes)


def eager_executors(unet: UNet, first_stage: FirstStage, *, same_bytes: bool = True) -> Executors:
    """Return the eager executors of a model, on the device of its networks."""
    side = unet.config.sample_size

    def one_by_one(network: Network) -> Run:
        run = Eager(network, same_bytes=False)
        return OneByOne(run) if same_bytes else run

    return Executors(
        denoiser=Eager(denoiser(unet), same_bytes=same_bytes),
        decoder=one_by_one(decoder(first_stage, side)),
        encoder=one_by_one(encoder(first_stage, side * first_stage.config.factor)),
        controlled=partial(Eager, same_bytes=same_bytes),
        name="eager",
    )


class OneByOne:
    """Runs rows separately, so that none depends on another."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, *inputs: Tensor) -> Tensor:
        rows = zip(*(t.split(1) for t in inputs), strict=True)
        return torch.cat([self._run(*row) for row in rows])
