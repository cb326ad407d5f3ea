"""Which kinds of models there are, by the pipeline class that model_index.json names.

The names are diffusers', and ours for models of the paper that it has no class for. A kind says
what reads the request and what the UNet is shown beside the latents; UNet, first stage and
schedule are loaded alike for all (`models.loading.loader`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from models.checkpoints.checkpoint import load_component, read_json
from models.conditioners import Conditioner
from models.conditioners.bert import BertConditioner
from models.conditioners.clip import ClipConditioner, TextStage
from models.conditioners.concat_conditioning import (
    ConcatConditioning,
    LowResolutionConditioning,
    PaperInpaintingConditioning,
    SemanticMapConditioning,
    StableInpaintingConditioning,
)
from models.conditioners.unconditional import ClassConditioner, LayoutConditioner, Unconditional
from models.denoising.patches import Patches
from models.networks.bert import BertConfig, BertEncoder
from models.networks.config import TextEncoderConfig
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from models.networks.text_encoder import TextEncoder
from models.text.tokenizer import Tokenizer

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Published:
    """A model's folder, what its model_index.json says, and how its networks are to be had."""

    folder: Path
    index: Mapping[str, Any]
    dtype: torch.dtype
    device: torch.device

    def network(self, name: str, build: Callable[[dict[str, Any]], M]) -> M:
        return load_component(self.folder / name, build, self.dtype, self.device)

    def tokenizer(self, name: str = "tokenizer") -> Tokenizer:
        return Tokenizer.from_folder(self.folder / name)


def _clip(files: Published) -> ClipConditioner:
    # The refiner has only the second of SDXL's two encoders.
    named = [s for s in ("", "_2") if any(files.index.get(f"text_encoder{s}", ()))]
    unet = read_json(files.folder / "unet/config.json")
    return ClipConditioner(
        tuple(_text_stage(files, suffix) for suffix in named),
        files.device,
        sdxl=unet.get("addition_embed_type") == "text_time",
        refiner=bool(files.index.get("requires_aesthetics_score", False)),
        zero_empty_negative=bool(files.index.get("force_zeros_for_empty_prompt", False)),
    )


def _text_stage(files: Published, suffix: str) -> TextStage:
    encoder = files.network(
        f"text_encoder{suffix}", lambda c: TextEncoder(TextEncoderConfig.from_dict(c))
    )
    return TextStage(files.tokenizer(f"tokenizer{suffix}"), encoder)


def _bert_network(files: Published) -> BertEncoder:
    return files.network("bert", lambda c: BertEncoder(BertConfig.from_dict(c)))


def _bert(files: Published) -> BertConditioner:
    return BertConditioner(files.tokenizer(), _bert_network(files), files.device)


def _layout(files: Published) -> LayoutConditioner:
    return LayoutConditioner(_bert_network(files), files.device)


def _nothing(files: Published) -> Unconditional:
    return Unconditional()


def _class(files: Published) -> ClassConditioner:
    embedder = files.network(
        "class_embedder", lambda c: ClassEmbedder(ClassEmbedderConfig.from_dict(c))
    )
    return ClassConditioner(embedder, files.device)


def _stable_inpainting(files: Published) -> ConcatConditioning | None:
    """Only where the UNet has channels for it: the pipeline also takes one that has not."""
    unet = read_json(files.folder / "unet/config.json")
    return StableInpaintingConditioning() if unet.get("in_channels") == 9 else None


def _class_map(files: Published) -> SemanticMapConditioning:
    rescaler = files.network(
        "rescaler", lambda c: SpatialRescaler(SpatialRescalerConfig.from_dict(c))
    )
    return SemanticMapConditioning(rescaler, files.device)


@dataclass(frozen=True)
class Kind:
    """What tells models of a kind from others; `tasks` by the names that the protocol has for them.

    patches: in which larger pictures are drawn (CompVis' notebook for super-resolution: 128 latents
    wide, a new one every 64).
    """

    tasks: tuple[str, ...]
    conditioner: Callable[[Published], Conditioner]
    concat_conditioning: Callable[[Published], ConcatConditioning | None] = lambda files: None
    patches: Patches | None = None


_FROM_WORDS = ("txt2img", "img2img", "inpaint")

KINDS: Mapping[str, Kind] = {
    "StableDiffusionPipeline": Kind(_FROM_WORDS, _clip),
    # Its tokenizer's files say that it has another vocabulary; all else is Stable Diffusion 1.x.
    "JapaneseStableDiffusionPipeline": Kind(_FROM_WORDS, _clip),
    "StableDiffusionImg2ImgPipeline": Kind(_FROM_WORDS, _clip),
    "LatentConsistencyModelPipeline": Kind(_FROM_WORDS, _clip),
    "LatentConsistencyModelImg2ImgPipeline": Kind(_FROM_WORDS, _clip),
    "StableDiffusionInpaintPipeline": Kind(_FROM_WORDS, _clip, _stable_inpainting),
    # Its encoder wants depth as well, which a client's picture has not.
    "StableDiffusionLDM3DPipeline": Kind(("txt2img",), _clip),
    "StableDiffusionXLPipeline": Kind(_FROM_WORDS, _clip),
    "StableDiffusionXLImg2ImgPipeline": Kind(_FROM_WORDS, _clip),
    "LDMPipeline": Kind(("unconditional",), _nothing),
    "LDMTextToImagePipeline": Kind(_FROM_WORDS, _bert),
    "LDMSuperResolutionPipeline": Kind(
        ("upscale",),
        _nothing,
        lambda files: LowResolutionConditioning(files.device),
        Patches(128, 64),
    ),
    "LatentDiffusionClassPipeline": Kind(("class",), _class),
    "LatentDiffusionInpaintPipeline": Kind(
        ("inpaint",), _nothing, lambda files: PaperInpaintingConditioning()
    ),
    "LatentDiffusionLayoutPipeline": Kind(("layout",), _layout),
    "LatentDiffusionSemanticPipeline": Kind(("semantic",), _nothing, _class_map),
}
