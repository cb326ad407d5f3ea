"""Runs a variant of a model by the means that were chosen for the model itself, or simpler ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from models.executors.base import SupportsWeights, Executors, Network, Run, denoiser
from models.executors.eager import Eager
from models.networks.unet import UNet

RunMerged = Callable[[Executors, UNet], Executors]


def reuse_executor(executors: Executors, unet: UNet) -> Executors:
    """The same executors for a `unet` that differs in the values of weights only."""
    return replace(executors, denoiser=run_like(executors.denoiser, denoiser(unet)))


def run_eagerly(executors: Executors, unet: UNet) -> Executors:
    """PyTorch as it is, which needs no memory for weights that the `unet` shares."""
    return replace(executors, denoiser=Eager(denoiser(unet), same_bytes=True))


def run_like(run: Run, network: Network) -> Run:
    """`network` as `run` runs the one that it differs from."""
    if isinstance(run, SupportsWeights):
        return run.with_weights(network)
    return Eager(network, same_bytes=True)
