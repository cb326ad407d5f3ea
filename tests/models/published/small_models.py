"""The paper's models with small networks, as folders of the published layout, random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig, VQConfig
from models.autoencoders.vq import VQModel
from models.checkpoints.checkpoint import save_component
from models.networks.bert import BertConfig, BertEncoder
from models.networks.config import UNetConfig
from models.networks.embedders import (
    ClassEmbedder,
    ClassEmbedderConfig,
    SpatialRescaler,
    SpatialRescalerConfig,
)
from models.networks.unet import UNet

CLASSES = 6
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "cat", "##s", "the", "dog")
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
VQ = VQConfig(
    sample_size=32,
    block_out_channels=(32, 32, 64),
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    layers_per_block=1,
    num_vq_embeddings=64,
)
KL = AutoencoderConfig(
    sample_size=32,
    block_out_channels=(32, 32, 64),
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    layers_per_block=1,
)


def unconditional_unet(in_channels: int, latent_channels: int = 3) -> UNetConfig:
    """Build a UNet without a context."""
    return UNetConfig(
        sample_size=8,
        in_channels=in_channels,
        out_channels=latent_channels,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=16,
        cross_attention_dim=None,
    )


def conditional_unet(context: int, latent_channels: int = 3) -> UNetConfig:
    return UNetConfig(
        sample_size=8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=context,
    )


def bert(vocabulary: int, length: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=length,
        d_model=32,
        encoder_layers=2,
        encoder_ffn_dim=64,
        encoder_attention_heads=4,
        head_dim=16,
    )


def write_unconditional(folder: Path, **scheduler: Any) -> Path:
    return _write(folder, "LDMPipeline", unconditional_unet(3), scheduler)


def write_churches(folder: Path) -> Path:
    """Write an unconditional model too, with a Gaussian first stage and a factor of its own."""
    config = AutoencoderConfig(**{**vars(KL), "scaling_factor": 0.22765929})
    return _write(folder, "LDMPipeline", unconditional_unet(4, 4), first_stage=config)


def write_text_to_image(folder: Path, first_stage: AutoencoderConfig | VQConfig = KL) -> Path:
    channels = first_stage.latent_channels
    unet = conditional_unet(32, channels)
    _write(folder, "LDMTextToImagePipeline", unet, first_stage=first_stage)
    config = bert(len(WORDS), 77)
    _save(folder, "bert", BertEncoder(config), config.to_dict())
    _json(
        folder / "tokenizer/tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "model_max_length": 77, "do_lower_case": True},
    )
    (folder / "tokenizer/vocab.txt").write_text("\n".join(WORDS) + "\n", "utf-8")
    return folder


def write_class(folder: Path) -> Path:
    _write(folder, "LatentDiffusionClassPipeline", conditional_unet(32))
    config = ClassEmbedderConfig(n_classes=CLASSES + 1, embed_dim=32)
    _save(folder, "class_embedder", ClassEmbedder(config), config.to_dict())
    return folder


def write_layout(folder: Path, things: int = 4) -> Path:
    _write(folder, "LatentDiffusionLayoutPipeline", conditional_unet(32))
    config = bert(400, 3 * things + 2)
    _save(folder, "bert", BertEncoder(config), config.to_dict())
    return folder


def write_semantic(folder: Path) -> Path:
    _write(folder, "LatentDiffusionSemanticPipeline", unconditional_unet(6))
    config = SpatialRescalerConfig(in_channels=CLASSES)
    _save(folder, "rescaler", SpatialRescaler(config), config.to_dict())
    return folder


def write_inpainting(folder: Path) -> Path:
    return _write(folder, "LatentDiffusionInpaintPipeline", unconditional_unet(7))


def write_super_resolution(folder: Path) -> Path:
    return _write(folder, "LDMSuperResolutionPipeline", unconditional_unet(6))


def _write(
    folder: Path,
    pipeline: str,
    unet: UNetConfig,
    scheduler: Mapping[str, Any] | None = None,
    first_stage: AutoencoderConfig | VQConfig = VQ,
) -> Path:
    torch.manual_seed(5)
    _json(folder / "model_index.json", {"_class_name": pipeline})
    _json(folder / "scheduler/scheduler_config.json", SCHEDULER | dict(scheduler or {}))
    _save(folder, "unet", UNet(unet), unet.to_dict())
    network = VQModel if isinstance(first_stage, VQConfig) else AutoencoderKL
    _save(folder, "vqvae", network(first_stage), first_stage.to_dict())  # type: ignore[arg-type]
    return folder


def _save(folder: Path, part: str, network: nn.Module, config: dict[str, Any]) -> None:
    stem = "model" if part == "bert" else "diffusion_pytorch_model"  # of transformers, of diffusers
    save_component(network, config, folder / part, stem, torch.float32)


def _json(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2), "utf-8")
