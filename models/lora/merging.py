"""Merging of LoRAs: a variant of a model with its own changed weights, which shares the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from models.conditioners import Conditioner
from models.conditioners.clip import ClipConditioner, text_stages
from models.conditioners.embedding_cache import EmbeddingCache
from models.conditioners.textual_inversion import with_vectors
from models.executors.merged import RunMerged, reuse_executor
from models.lora.changes import Change
from models.lora.errors import LoraError
from models.lora.layers import Layers
from models.lora.names import TEXT, TEXT_2, UNET
from models.lora.reading import LoRA
from models.networks.sharing import with_weights
from models.pipeline import LatentDiffusion


@dataclass(frozen=True)
class Strength:
    """The strengths of a LoRA in the UNet and in the text encoders; 1 is as trained.

    blocks: factors of these in each of `original_names.BLOCKS`. Layers outside of the blocks have
    no factor. words: the words that the file bundles can be used.
    """

    unet: float
    text: float
    blocks: tuple[float, ...] | None = None
    words: bool = True

    def of(self, lora: LoRA, component: str, name: str) -> float:
        """Return the strength of the change of a parameter."""
        strength = self.unet if component == UNET else self.text
        if self.blocks is None:
            return strength
        block = lora.blocks.get(name.rpartition(".")[0]) if component == UNET else 0
        return strength if block is None else strength * self.blocks[block]


Weighted = Sequence[tuple[LoRA, Strength | float]]  # a number is the strength in all networks
Strengths = Sequence[tuple[LoRA, Strength]]


def networks(model: LatentDiffusion) -> dict[str, nn.Module]:
    """Return the networks that LoRAs may change, by their names in files."""
    stages = text_stages(model.conditioner)
    # SDXL's refiner has the second text encoder only.
    names = (TEXT_2,) if model.is_sdxl and len(stages) == 1 else (TEXT, TEXT_2)
    encoders = zip(names, (stage.encoder for stage in stages), strict=False)
    return {UNET: model.unet, **dict(encoders)}


def layers_of(model: LatentDiffusion) -> Layers:
    """Return the layers in which a file's names are looked up."""
    return Layers.of(networks(model), model.unet.config, model.conditioner, model.folder)


def with_loras(
    model: LatentDiffusion, loras: Weighted, run: RunMerged = reuse_executor
) -> LatentDiffusion:
    """Return the variant of `model` with all these LoRAs; `run` makes its executors.

    Only changed parameters get memory of their own: W + Σ strength · change, added in float32 and
    converted back once to their precision and layout. With a changed text encoder, or the words of
    bundled embeddings, the variant has its own cache of prompts. The LoRAs must have been read for
    this model. Raises LoraError for two that bundle the same word.
    """
    of_each = [
        (lora, given if isinstance(given, Strength) else Strength(given, given, words=given != 0))
        for lora, given in loras
    ]
    weights = {name: _merged(name, network, of_each) for name, network in networks(model).items()}
    of_unet, *of_encoders = weights.values()
    conditioner = _with_words(_conditioner(model.conditioner, of_encoders), of_each)
    if not of_unet:
        return replace(model, conditioner=conditioner)
    unet = with_weights(model.unet, of_unet)
    return replace(model, conditioner=conditioner, unet=unet, executors=run(model.executors, unet))


def _merged(component: str, network: nn.Module, loras: Strengths) -> dict[str, Tensor]:
    """Return the changed weights of a network, by parameter name."""
    changes: dict[str, list[tuple[Change, float]]] = {}
    for lora, given in loras:
        for (of, name), change in lora.changes.items():
            if of == component and (strength := given.of(lora, component, name)):
                changes.setdefault(name, []).append((change, strength))
    return {name: _sum(network.get_parameter(name), all_of) for name, all_of in changes.items()}


@torch.no_grad()
def _sum(weight: Tensor, changes: Sequence[tuple[Change, float]]) -> Tensor:
    # In the memory layout of the weight: convolutions are channels-last.
    merged = torch.empty_like(weight, dtype=torch.float32).copy_(weight)
    for change, strength in changes:
        # Rows after those of the file are of textual inversion embeddings.
        delta = change.delta(weight[: change.rows])
        merged[: change.rows].add_(delta, alpha=strength)
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


def _with_words(of: Conditioner, loras: Strengths) -> Conditioner:
    """Return the conditioner with the words that the LoRAs bundle, each file's once."""
    bundled = {lora.name: lora.embeddings for lora, strength in loras if strength.words}
    for name, embeddings in bundled.items():
        if embeddings and isinstance(of, ClipConditioner):
            of, problems = with_vectors(of, embeddings)
            for word, problem in problems.items():
                raise LoraError(f"cannot be used: its embedding {word}: {problem}", name)
    return of
