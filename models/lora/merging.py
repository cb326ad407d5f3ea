"""Merging of LoRAs: a variant of a model with its own changed weights, which shares the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.conditioners import Conditioner
from models.conditioners.clip import ClipConditioner, text_stages
from models.conditioners.embedding_cache import EmbeddingCache
from models.executors.merged import RunMerged, reuse_executor
from models.lora.factors import Factors
from models.lora.layers import Layers
from models.lora.names import TEXT, TEXT_2, UNET
from models.lora.reading import LoRA
from models.networks.sharing import with_weights
from models.pipeline import LatentDiffusion

Weighted = Sequence[tuple[LoRA, float]]  # with its strength; 1 as trained


def networks(model: LatentDiffusion) -> dict[str, nn.Module]:
    """Return the networks that LoRAs may change, by their names in files."""
    stages = text_stages(model.conditioner)
    # SDXL's refiner has the second text encoder only.
    names = (TEXT_2,) if model.is_sdxl and len(stages) == 1 else (TEXT, TEXT_2)
    encoders = zip(names, (stage.encoder for stage in stages), strict=False)
    return {UNET: model.unet, **dict(encoders)}


def layers_of(model: LatentDiffusion) -> Layers:
    """Return the layers in which a file's names are looked up."""
    return Layers.of(networks(model), model.unet.config)


def with_loras(
    model: LatentDiffusion, loras: Weighted, run: RunMerged = reuse_executor
) -> LatentDiffusion:
    """Return the variant of `model` with all these LoRAs; `run` makes its executors.

    Only changed layers get their own weights: W + Σ strength · scale · up @ down, added in float32
    and converted back to W's precision and layout. With a changed text encoder the variant has its
    own cache of prompts. The LoRAs must have been read for this model.
    """
    weights = {name: _merged(name, network, loras) for name, network in networks(model).items()}
    of_unet, *of_encoders = weights.values()
    conditioner = _conditioner(model.conditioner, of_encoders)
    if not of_unet:
        return replace(model, conditioner=conditioner)
    unet = with_weights(model.unet, of_unet)
    return replace(model, conditioner=conditioner, unet=unet, executors=run(model.executors, unet))


def _merged(component: str, network: nn.Module, loras: Weighted) -> dict[str, Tensor]:
    """Return the changed weights of a network, by parameter name."""
    changes: dict[str, list[tuple[Factors, float]]] = {}
    for lora, weight in loras:
        for (of, path), factors in lora.factors.items():
            if of == component:
                changes.setdefault(f"{path}.weight", []).append((factors, weight))
    return {name: _sum(network.get_parameter(name), all_of) for name, all_of in changes.items()}


@torch.no_grad()
def _sum(weight: Tensor, changes: list[tuple[Factors, float]]) -> Tensor:
    # In the memory layout of the weight: convolutions are channels-last.
    merged = torch.empty_like(weight, dtype=torch.float32).copy_(weight)
    for factors, strength in changes:
        merged.add_(factors.delta(weight.shape, weight.device), alpha=strength)
    return merged.to(weight.dtype)


def _conditioner(of: Conditioner, weights: Sequence[Mapping[str, Tensor]]) -> Conditioner:
    """Return the conditioner with these weights in its encoders."""
    if not isinstance(of, ClipConditioner) or not any(weights):
        return of
    stages = tuple(
        replace(stage, encoder=with_weights(stage.encoder, changed)) if changed else stage
        for stage, changed in zip(of.stages, weights, strict=True)
    )
    return replace(of, stages=stages, embeddings=EmbeddingCache())
