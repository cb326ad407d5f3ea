"""The networks of a model, each as a module of plain tensors that share dimension 0.

Executors that trace a graph need nothing else: a module, and inputs of its true sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

import models
from models.autoencoders.first_stage import FirstStage
from models.denoising.slot_update import SlotUpdate, slot_update
from models.networks.unet import AddedConditioning, UNet

PROMPT_TOKENS = 77  # of the example inputs; other lengths are possible


class Run(Protocol):
    """A network with its executor: inputs (N, …) each -> output (N, …)."""

    def __call__(self, *inputs: Tensor) -> Tensor: ...


@runtime_checkable
class SupportsWeights(Protocol):
    """A run that can run the same network with other weights by the same executor."""

    def __call__(self, *inputs: Tensor) -> Tensor: ...

    def with_weights(self, network: Network) -> Run:
        """Return the run of `network`, which differs from this one's only in the values of weights.

        It shares the equal parameters with this one's network.
        """


@dataclass(frozen=True)
class Network:
    """A module of plain tensors, and random inputs of the model's own size for `rows` images.

    free: for each input the dimensions whose size is not fixed by the weights.
    """

    name: str
    module: nn.Module
    examples: Callable[[int], tuple[Tensor, ...]]
    free: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Executors:
    """The executors of a model's three networks and the slot update, with a name for the log.

    controlled: makes the run of a UNet with ControlNets, which are not loaded yet at this point.
    """

    denoiser: Run
    decoder: Run
    encoder: Run
    controlled: Callable[[Network], Run]
    name: str
    update: SlotUpdate = slot_update


class _Denoise(nn.Module):
    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, timestep: Tensor, *conditioning: Tensor) -> Tensor:
        """Run the UNet; conditioning: the context, if it has one, and its added conditioning."""
        context, *tensors = conditioning or (None,)
        added = AddedConditioning.of(self.unet.config, tensors)
        out: Tensor = self.unet(x, timestep, context, added)
        return out


class _Decode(nn.Module):
    def __init__(self, first_stage: FirstStage) -> None:
        super().__init__()
        self.first_stage = first_stage

    def forward(self, z: Tensor) -> Tensor:
        return self.first_stage.decode(z)


class _Encode(nn.Module):
    def __init__(self, first_stage: FirstStage) -> None:
        super().__init__()
        self.first_stage = first_stage

    def forward(self, image: Tensor) -> Tensor:
        return self.first_stage.moments(image)


# Original size, crop and target size; the refiner's crop is followed by an aesthetic score.
_TIME_IDS = {6: (1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0), 5: (1024.0, 1024.0, 0.0, 0.0, 6.0)}


def denoiser(unet: UNet) -> Network:
    """Return the network (x, timestep, …) -> prediction.

    After the timestep come the context, if the UNet has one, and the `AddedConditioning.tensors` of
    SDXL, of networks distilled with guidance and of those with labels. x has all input channels of
    the UNet: latents and concat conditioning.
    """
    config = unet.config
    weight = unet.conv_in.weight

    def examples(rows: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(rows)

        def random(*shape: int) -> Tensor:
            return torch.randn(rows, *shape, generator=generator).to(weight)

        side = config.sample_size
        inputs = [
            random(config.in_channels, side, side),
            torch.linspace(0, 999, rows, device=weight.device),
        ]
        if config.cross_attention_dim is not None:
            inputs += [random(PROMPT_TOKENS, config.cross_attention_dim)]
        if config.pooled_dim is not None:
            ids = torch.tensor(_TIME_IDS[config.time_ids], device=weight.device)
            inputs += [random(config.pooled_dim), ids.expand(rows, -1)]
        if config.time_cond_proj_dim is not None:
            inputs += [random(config.time_cond_proj_dim)]
        if config.num_class_embeds is not None:
            last = config.num_class_embeds - 1
            inputs += [torch.linspace(0, last, rows, device=weight.device).round()]
        return tuple(inputs)

    free: tuple[tuple[int, ...], ...] = ((0, 2, 3), (0,))
    if config.cross_attention_dim is not None:
        free += ((0, 1),)
    if config.pooled_dim is not None:
        free += ((0,), (0,))
    if config.time_cond_proj_dim is not None:
        free += ((0,),)
    if config.num_class_embeds is not None:
        free += ((0,),)
    return Network("denoiser", _Denoise(unet), examples, free)


def decoder(first_stage: FirstStage, side: int) -> Network:
    """Return the network from unscaled latents to the image; `side` of the example latents."""
    channels = first_stage.config.latent_channels
    return _image_network("decoder", _Decode(first_stage), channels, side)


def encoder(first_stage: FirstStage, side: int) -> Network:
    """Return the network from the image to the moments of its latents.

    `side`: of the example image, in pixels.
    """
    channels = first_stage.config.in_channels
    return _image_network("encoder", _Encode(first_stage), channels, side)


def _image_network(name: str, module: nn.Module, channels: int, side: int) -> Network:
    weight = next(module.parameters())

    def examples(rows: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(rows)
        return (torch.randn(rows, channels, side, side, generator=generator).to(weight),)

    return Network(name, module, examples, ((0, 2, 3),))


@lru_cache(maxsize=16)
def fingerprint(network: Network) -> str:
    """Return a hash of the weights and of all code that turns them into a graph."""
    digest = hashlib.sha256()
    for version in (torch.__version__, str(network.module)):
        digest.update(version.encode())
    digest.update(source_digest(Path(models.__file__).parent))
    for name, tensor in network.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def source_digest(folder: Path) -> bytes:
    """Return a hash of every Python file below `folder`, by path and content.

    It is part of the key of kept graphs: a graph must not outlive a change of the code it was made
    from, wherever in the package that code lies.
    """
    digest = hashlib.sha256()
    for source in sorted(folder.rglob("*.py")):
        digest.update(source.relative_to(folder).as_posix().encode())
        digest.update(source.read_bytes())
    return digest.digest()
