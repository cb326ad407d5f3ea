"""Runs a variant of a model by the means that were chosen for the model itself."""

from __future__ import annotations

from dataclasses import replace

from models.executors.eager import Eager
from models.executors.networks import Adaptable, Executors, Network, Run, denoiser
from models.unet import UNet


def run_alike(executors: Executors, unet: UNet) -> Executors:
    """The same executors for a `unet` that differs in the values of weights only."""
    return replace(executors, denoiser=alike(executors.denoiser, denoiser(unet)))


def alike(run: Run, network: Network) -> Run:
    """`network` as `run` runs the one that it differs from."""
    if isinstance(run, Adaptable):
        return run.with_weights(network)
    return Eager(network, same_bytes=True)
