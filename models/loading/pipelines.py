"""The supported pipelines, by the class that model_index.json names.

The names are those of diffusers, and ours for models of the paper without a diffusers class. A
pipeline decides the conditioner and the tensors that the UNet gets in addition to the latents.
UNet, first stage and schedule are loaded alike for all (`models.loading.loader`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from models.checkpoints.checkpoint import CheckpointError, load_component, read_json
from models.checkpoints.detect.unsupported import refuse_pipeline
from models.checkpoints.errors import UnknownFamily, UnsupportedConfig
from models.checkpoints.model_index import component_class
from models.conditioners import Conditioner
from models.conditioners.bert import BertConditioner
from models.conditioners.clip import ClipConditioner, TextStage
from models.conditioners.concat_conditioning import (
    ConcatConditioning,
    DepthConditioning,
    EditConditioning,
    LowResolutionConditioning,
    NoisyImageConditioning,
    PaperInpaintingConditioning,
    SemanticMapConditioning,
    StableInpaintingConditioning,
)
from models.conditioners.unconditional import ClassConditioner, LayoutConditioner, Unconditional
from models.denoising.patches import Patches
from models.loading.scheduler import read_image_noise_schedule
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

MAX_NOISE_LEVEL = 350  # of the x4 upscaler's file without one, as in diffusers

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder and its model_index.json; loads networks in `dtype` on `device`."""

    folder: Path
    index: Mapping[str, Any]
    dtype: torch.dtype
    device: torch.device

    def network(self, name: str, build: Callable[[dict[str, Any]], M]) -> M:
        return load_component(self.folder / name, build, self.dtype, self.device)

    def tokenizer(self, name: str, rows: int) -> Tokenizer:
        """Return a tokenizer for a text encoder with embeddings of `rows` tokens."""
        tokenizer = Tokenizer.from_folder(self.folder / name)
        tokenizer.check_rows(rows)
        return tokenizer


def _clip(files: ModelFiles) -> ClipConditioner:
    # The refiner has only the second of SDXL's two encoders.
    named = [s for s in ("", "_2") if component_class(files.index, f"text_encoder{s}")]
    if not named:
        raise CheckpointError("model_index.json names neither a text_encoder nor a text_encoder_2")
    unet = read_json(files.folder / "unet/config.json")
    return ClipConditioner(
        tuple(_text_stage(files, suffix) for suffix in named),
        files.device,
        sdxl=unet.get("addition_embed_type") == "text_time",
        refiner=bool(files.index.get("requires_aesthetics_score", False)),
        zero_empty_negative=bool(files.index.get("force_zeros_for_empty_prompt", False)),
    )


def _text_stage(files: ModelFiles, suffix: str) -> TextStage:
    encoder = files.network(
        f"text_encoder{suffix}", lambda c: TextEncoder(TextEncoderConfig.from_dict(c))
    )
    return TextStage(files.tokenizer(f"tokenizer{suffix}", encoder.config.vocab_size), encoder)


def _bert_network(files: ModelFiles) -> BertEncoder:
    return files.network("bert", lambda c: BertEncoder(BertConfig.from_dict(c)))


def _bert(files: ModelFiles) -> BertConditioner:
    network = _bert_network(files)
    tokenizer = files.tokenizer("tokenizer", network.config.vocab_size)
    return BertConditioner(tokenizer, network, files.device)


def _layout(files: ModelFiles) -> LayoutConditioner:
    return LayoutConditioner(_bert_network(files), files.device)


def _nothing(files: ModelFiles) -> Unconditional:
    return Unconditional()


def _class(files: ModelFiles) -> ClassConditioner:
    embedder = files.network(
        "class_embedder", lambda c: ClassEmbedder(ClassEmbedderConfig.from_dict(c))
    )
    return ClassConditioner(embedder, files.device)


def _stable_inpainting(files: ModelFiles) -> ConcatConditioning | None:
    """Return the mask conditioning; None for a UNet without channels for it."""
    unet = read_json(files.folder / "unet/config.json")
    return StableInpaintingConditioning() if unet.get("in_channels") == 9 else None


def _edit(files: ModelFiles) -> EditConditioning:
    return EditConditioning(scaled=bool(files.index.get("is_cosxl_edit", False)))


def _noisy_image(files: ModelFiles) -> NoisyImageConditioning:
    schedule = read_image_noise_schedule(files.folder)
    most = files.index.get("max_noise_level", MAX_NOISE_LEVEL)
    if type(most) is not int or not 0 <= most < schedule.num_train_timesteps:
        bound = f"a whole number below {schedule.num_train_timesteps}"
        raise UnsupportedConfig(f"model_index.json: max_noise_level={most!r} is not {bound}")
    return NoisyImageConditioning(files.device, schedule, most)


def _class_map(files: ModelFiles) -> SemanticMapConditioning:
    rescaler = files.network(
        "rescaler", lambda c: SpatialRescaler(SpatialRescalerConfig.from_dict(c))
    )
    return SemanticMapConditioning(rescaler, files.device)


@dataclass(frozen=True)
class PipelineSpec:
    """The parts of a pipeline that differ from others.

    tasks: by the protocol's names. patches: the tiles of a larger image's latents (CompVis'
    notebook for super-resolution: 128 latents wide, every 64).
    """

    tasks: tuple[str, ...]
    conditioner: Callable[[ModelFiles], Conditioner]
    concat_conditioning: Callable[[ModelFiles], ConcatConditioning | None] = lambda files: None
    patches: Patches | None = None


_FROM_TEXT = ("txt2img", "img2img", "inpaint", "outpaint")
_FROM_IMAGE = ("img2img",)

PIPELINES: Mapping[str, PipelineSpec] = {
    "StableDiffusionPipeline": PipelineSpec(_FROM_TEXT, _clip),
    # Stable Diffusion 1.x with another vocabulary, which its tokenizer's files hold.
    "JapaneseStableDiffusionPipeline": PipelineSpec(_FROM_TEXT, _clip),
    "StableDiffusionImg2ImgPipeline": PipelineSpec(_FROM_TEXT, _clip),
    "LatentConsistencyModelPipeline": PipelineSpec(_FROM_TEXT, _clip),
    "LatentConsistencyModelImg2ImgPipeline": PipelineSpec(_FROM_TEXT, _clip),
    "StableDiffusionInpaintPipeline": PipelineSpec(_FROM_TEXT, _clip, _stable_inpainting),
    # Its encoder takes depth too, which a client's image does not have.
    "StableDiffusionLDM3DPipeline": PipelineSpec(("txt2img",), _clip),
    "StableDiffusionXLPipeline": PipelineSpec(_FROM_TEXT, _clip),
    "StableDiffusionXLImg2ImgPipeline": PipelineSpec(_FROM_TEXT, _clip),
    "StableDiffusionXLInpaintPipeline": PipelineSpec(_FROM_TEXT, _clip, _stable_inpainting),
    "StableDiffusionInstructPix2PixPipeline": PipelineSpec(_FROM_IMAGE, _clip, _edit),
    "StableDiffusionXLInstructPix2PixPipeline": PipelineSpec(_FROM_IMAGE, _clip, _edit),
    # Its estimator of depth is not loaded: clients send the map.
    "StableDiffusionDepth2ImgPipeline": PipelineSpec(
        _FROM_IMAGE, _clip, lambda files: DepthConditioning(files.device)
    ),
    "StableDiffusionUpscalePipeline": PipelineSpec(
        ("upscale",), _clip, _noisy_image, Patches(128, 64)
    ),
    "LDMPipeline": PipelineSpec(("unconditional",), _nothing),
    "LDMTextToImagePipeline": PipelineSpec(_FROM_TEXT, _bert),
    "LDMSuperResolutionPipeline": PipelineSpec(
        ("upscale",),
        _nothing,
        lambda files: LowResolutionConditioning(files.device),
        Patches(128, 64),
    ),
    "LatentDiffusionClassPipeline": PipelineSpec(("class",), _class),
    "LatentDiffusionInpaintPipeline": PipelineSpec(
        ("inpaint", "outpaint"), _nothing, lambda files: PaperInpaintingConditioning()
    ),
    "LatentDiffusionLayoutPipeline": PipelineSpec(("layout",), _layout),
    "LatentDiffusionSemanticPipeline": PipelineSpec(("semantic",), _nothing, _class_map),
}


def pipeline_of(index: Mapping[str, Any], source: str = "") -> PipelineSpec:
    """Return the pipeline that a model_index.json names. source: the model's, for messages.

    Raises CheckpointError for one that is not supported.
    """
    name = str(index.get("_class_name"))
    if name in PIPELINES:
        return PIPELINES[name]
    begin = f"{source}: " if source else ""
    try:
        refuse_pipeline(name, index)
    except UnknownFamily as error:
        raise UnknownFamily(f"{begin}{error}") from error
    raise CheckpointError(f"{begin}pipeline {name!r} is not supported; have {', '.join(PIPELINES)}")
