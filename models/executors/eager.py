"""PyTorch as it is, with what it takes to give a row the same bits whatever its company.

On a CPU two things depend on the number of rows: a single image takes another path through the
convolutions, and small matrix products switch kernels. So a lone row gets a twin, and the time
embedding is computed on a fixed number of rows. Pictures pass the autoencoder one by one, which
costs nothing: its time is proportional to their number.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from models.autoencoders.first_stage import FirstStage
from models.executors.base import Executors, Network, Run, decoder, denoiser, encoder
from models.networks.layers import RowLinear, row_multiple
from models.networks.unet import UNet

EMBEDDED_ROWS = 32  # from here on matrix products of a CPU keep to one kernel


class Eager:
    """Calls the module; with `same_bytes`, so that a row cannot tell how many others there are."""

    def __init__(self, network: Network, *, same_bytes: bool) -> None:
        self._module = network.module
        self._same_bytes = same_bytes
        self._embeddings = [m for m in network.module.modules() if isinstance(m, RowLinear)]
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
        with row_multiple(self._embeddings, EMBEDDED_ROWS):
            out = self._module(*inputs)
        return out[:rows]

    def with_weights(self, network: Network) -> Run:
        return Eager(network, same_bytes=self._same_bytes)


def eager_executors(unet: UNet, first_stage: FirstStage, *, same_bytes: bool = True) -> Executors:
    """The networks as they are, on whatever device they are."""
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
    """Runs rows apart, so that none can know of another."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, *inputs: Tensor) -> Tensor:
        rows = zip(*(t.split(1) for t in inputs), strict=True)
        return torch.cat([self._run(*row) for row in rows])
