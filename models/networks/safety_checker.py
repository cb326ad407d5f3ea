"""The safety checker that Stable Diffusion 1.x was published with.

A CLIP vision transformer (Radford et al. 2021, ViT-L/14) embeds the image; an image whose embedding
is too near to that of one of seventeen concepts is flagged. The concepts were not published, only
their embeddings (CompVis/stable-diffusion-safety-checker; Rando et al. 2022, "Red-Teaming the
Stable Diffusion Safety Filter"). Module names are those of the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.checkpoints.checkpoint import CheckpointMissing, load_component, read_json
from models.checkpoints.config_fields import select
from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.model_index import component_class
from models.networks.clip_layers import LayerStack
from models.networks.config import check_heads

CONCEPTS, SPECIAL_CARE = 17, 3
STRICTER = np.float32(0.01)  # added to all further scores once one of special care is above 0
DECIMALS = 3  # of a score

_CHECKER = "StableDiffusionSafetyChecker"


# Of a file without these keys, as in transformers: the number of heads cannot be told from shapes.
_FILE_DEFAULTS = {
    "patch_size": 32,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
_FILE_PROJECTION = 512


@dataclass(frozen=True)
class VisionConfig:
    """A CLIP vision transformer, with the names of `vision_config`."""

    image_size: int = 224
    patch_size: int = 14
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 768

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read the vision part of a safety checker's `config.json`."""
        vision = data.get("vision_config") or {}
        if not isinstance(vision, dict):
            raise UnsupportedConfig(f"vision_config={vision!r} is no JSON object")
        known = {name: vision[name] for name in cls.__dataclass_fields__ if name in vision}
        known["projection_dim"] = data.get("projection_dim", _FILE_PROJECTION)
        config = cls(**{**_FILE_DEFAULTS, **select(cls, known, {})})
        if config.hidden_act not in ("quick_gelu", "gelu"):
            raise UnsupportedConfig(f"hidden_act={config.hidden_act!r}: have quick_gelu, gelu")
        check_heads(config.hidden_size, config.num_attention_heads)
        return config


class Embeddings(nn.Module):
    """Patches of the image, in reading order, after a token for the whole image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding((config.image_size // patch) ** 2 + 1, width)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embedding(image).flatten(2).transpose(1, 2)  # (B, T - 1, D)
        whole = self.class_embedding.expand(len(image), 1, -1)
        out: Tensor = torch.cat([whole, patches], dim=1) + self.position_embedding.weight
        return out


class VisionTransformer(nn.Module):
    """image (B, 3, S, S) -> its features (B, D), from the token for the whole image."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        # The name is misspelled in the published files.
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = LayerStack(config, causal=False)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pre_layrnorm(self.embeddings(image))
        for layer in self.encoder.layers:
            x = layer(x)
        out: Tensor = self.post_layernorm(x[:, 0])
        return out


class _Vision(nn.Module):
    """Wrapper for the published names, which contain `vision_model` twice."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.vision_model = VisionTransformer(config)


@dataclass(frozen=True)
class Scores:
    """Similarities less their thresholds; above 0 is too near."""

    special_care: NDArray[np.float32]  # (3,)
    concepts: NDArray[np.float32]  # (17,)

    @property
    def flagged(self) -> bool:
        return bool((self.concepts > 0).any())


class SafetyChecker(nn.Module):
    """image (B, 3, S, S), normalised for CLIP -> embeddings (B, P)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.projection_dim
        self.vision_model = _Vision(config)
        self.visual_projection = nn.Linear(config.hidden_size, dim, bias=False)
        self.concept_embeds = nn.Parameter(torch.empty(CONCEPTS, dim))
        self.special_care_embeds = nn.Parameter(torch.empty(SPECIAL_CARE, dim))
        # The thresholds.
        self.concept_embeds_weights = nn.Parameter(torch.empty(CONCEPTS))
        self.special_care_embeds_weights = nn.Parameter(torch.empty(SPECIAL_CARE))

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.visual_projection(self.vision_model.vision_model(image))
        return out

    @torch.inference_mode()
    def scores(self, image: Tensor) -> Scores:
        """Score one image (3, S, S)."""
        weight = self.visual_projection.weight
        embedding = self(image[None].to(weight.device, weight.dtype))
        special = _beyond(embedding, self.special_care_embeds, self.special_care_embeds_weights)
        concepts = _beyond(embedding, self.concept_embeds, self.concept_embeds_weights)
        return adjusted(special, concepts)


def _beyond(embedding: Tensor, concepts: Tensor, thresholds: Tensor) -> NDArray[np.float32]:
    """Return the cosines (N,) with the concepts less their thresholds."""
    cosines = F.normalize(embedding) @ F.normalize(concepts).T
    beyond: NDArray[np.float32] = (cosines[0].float() - thresholds.float()).cpu().numpy()
    return beyond


def adjusted(special: NDArray[np.float32], concepts: NDArray[np.float32]) -> Scores:
    """Round scores to three decimals.

    The first of special care that is above 0 raises those after it, and all concepts, by
    `STRICTER`.
    """
    adjustment, scores = np.float32(0), []
    for beyond in special:
        scores.append(np.round(beyond + adjustment, DECIMALS))
        if scores[-1] > 0:
            adjustment = STRICTER
    return Scores(np.array(scores, np.float32), np.round(concepts + adjustment, DECIMALS))


def ships_safety_checker(folder: Path) -> bool:
    """Return True if the model in this folder was published with a safety checker."""
    index = folder / "model_index.json"
    if not index.exists():
        return False
    return component_class(read_json(index), "safety_checker") == _CHECKER


def load_safety_checker(folder: Path, dtype: torch.dtype, device: torch.device) -> SafetyChecker:
    """Load the safety checker of the model in `folder`.

    Raises CheckpointMissing if it names one whose files are missing, CheckpointMismatch and
    UnsupportedConfig.
    """
    part = folder / "safety_checker"
    if not (part / "config.json").exists():
        raise CheckpointMissing(f"{folder} names a safety checker, but has none: {part} is missing")
    return load_component(
        part, lambda config: SafetyChecker(VisionConfig.from_dict(config)), dtype, device
    )
