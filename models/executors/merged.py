"""Executors of a model with merged LoRAs, derived from those of the model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from models.executors.base import Executors, Network, Run, SupportsWeights, denoiser
from models.executors.eager import Eager
from models.networks.unet import UNet

RunMerged = Callable[[Executors, UNet], Executors]


def reuse_executor(executors: Executors, unet: UNet) -> Executors:
    """Return the same executors for a `unet` that differs only in the values of weights."""
    return replace(executors, denoiser=run_like(executors.denoiser, denoiser(unet)))


def run_eagerly(executors: Executors, unet: UNet) -> Executors:
    """Return executors with an eager `unet`, which needs no memory for shared weights."""
    return replace(executors, denoiser=Eager(denoiser(unet), same_bytes=True))


def run_like(run: Run, network: Network) -> Run:
    """Return the run of `network` by the executor of `run`, whose network has other weights."""
    if isinstance(run, SupportsWeights):
        return run.with_weights(network)
    return Eager(network, same_bytes=True)
