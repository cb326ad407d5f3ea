"""The memory that weights take, told by networks without any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import torch
from torch import nn

from models.autoencoders.first_stage import FirstStage
from models.networks.safety_checker import load_safety_checker
from models.pipeline import LatentDiffusion

META = torch.device("meta")


def weights_bytes(model: LatentDiffusion, dtype: torch.dtype, *, safety: bool = False) -> int:
    """The bytes that the weights of all networks take in `dtype`; a first stage that overflows in
    half precision takes as many as in single.

    With `safety`, the model's safety checker is counted, too. Raises CheckpointError if its files
    are not there.
    """
    beside = [load_safety_checker(model.folder, dtype, META)] if safety else []
    return sum(network_bytes(network, dtype) for network in (*networks(model), *beside))


def networks(part: object) -> Iterator[nn.Module]:
    """Every network that a model is made of, each once."""
    if isinstance(part, nn.Module):
        yield part
    elif isinstance(part, tuple):
        for inner in part:
            yield from networks(inner)
    elif is_dataclass(part) and not isinstance(part, type):
        for item in fields(part):
            if item.name != "executors":  # they run networks that are listed already
                yield from networks(getattr(part, item.name))


def network_bytes(network: nn.Module, dtype: torch.dtype) -> int:
    """The bytes that the weights of one network take in `dtype`."""
    upcast = isinstance(network, FirstStage) and getattr(network.config, "force_upcast", False)
    item = torch.float32.itemsize if upcast else dtype.itemsize
    return item * sum(tensor.numel() for tensor in network.state_dict().values())
