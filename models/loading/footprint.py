"""The memory that weights take, counted on networks without weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import torch
from torch import nn

from models.autoencoders.first_stage import FirstStage
from models.checkpoints.meta import META
from models.networks.safety_checker import load_safety_checker
from models.pipeline import LatentDiffusion


def weights_bytes(model: LatentDiffusion, dtype: torch.dtype, *, safety: bool = False) -> int:
    """Return the bytes that the weights of all networks take in `dtype`.

    A first stage that overflows in half precision counts in single precision. safety: count the
    model's safety checker too.

    Raises CheckpointError if the safety checker's files are missing.
    """
    checkers = [load_safety_checker(model.folder, dtype, META)] if safety else []
    return sum(network_bytes(network, dtype) for network in (*networks_of(model), *checkers))


def networks_of(part: object) -> Iterator[nn.Module]:
    """Yield every network of a model, or of a part of it, once."""
    if isinstance(part, nn.Module):
        yield part
    elif isinstance(part, tuple):
        for inner in part:
            yield from networks_of(inner)
    elif is_dataclass(part) and not isinstance(part, type):
        for item in fields(part):
            if item.name != "executors":  # they run networks that other fields hold
                yield from networks_of(getattr(part, item.name))


def network_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """Return the bytes that the weights of one network take in `dtype`."""
    upcast = isinstance(network, FirstStage) and getattr(network.config, "force_upcast", False)
    item = torch.float32.itemsize if upcast else dtype.itemsize
    return item * sum(tensor.numel() for tensor in network.state_dict().values())
