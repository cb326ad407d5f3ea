"""Complete models in the published layout, with random weights and few channels.

This project writes them and diffusers can read them, so both run the same weights.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers

from models.autoencoders.asymmetric import AsymmetricAutoencoderKL
from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AsymmetricConfig, AutoencoderConfig, TinyConfig
from models.autoencoders.tiny_autoencoder import AutoencoderTiny
from models.checkpoints.checkpoint import save_component
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.controlnet import ControlNet, ControlNetConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet

CONTEXT = 32  # width of the text features
START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = ["t h", "th e</w>", "a t</w>", "c at</w>", "r e", "re d</w>"]

AUTOENCODER = AutoencoderConfig(
    sample_size=32,
    block_out_channels=(32, 32, 64),
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    layers_per_block=1,
)

SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}


def write_tiny_sd(folder: Path, **scheduler: Any) -> Path:
    """Write a tiny Stable Diffusion 1.x; entries of `scheduler` override the defaults."""
    torch.manual_seed(1)
    unet = UNetConfig(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=CONTEXT,
    )
    index = {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    _write_common(folder, unet, index, scheduler)
    _write_text(folder, "", CONTEXT, with_projection=False)
    return folder


def write_tiny_ldm3d(folder: Path, channels: int = 6) -> Path:
    """Write a tiny LDM3D: Stable Diffusion with a decoder that also returns depth."""
    write_tiny_sd(folder)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    _write(folder / "model_index.json", index | {"_class_name": "StableDiffusionLDM3DPipeline"})
    _write_vae(folder, replace(AUTOENCODER, in_channels=channels, out_channels=channels))
    return folder


def write_tiny_vae(folder: Path, levels: int = 3) -> None:
    """Write a tiny autoencoder with a downsampling factor of 2 ** (levels - 1)."""
    torch.manual_seed(4)
    config = TinyConfig(
        encoder_block_out_channels=(8,) * levels,
        decoder_block_out_channels=(8,) * levels,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(1,) * levels,
    )
    stem = "diffusion_pytorch_model"
    save_component(AutoencoderTiny(config), config.to_dict(), folder, stem, torch.float32)


def write_tiny_inpainting(folder: Path, **scheduler: Any) -> Path:
    """Write a tiny Stable Diffusion inpainting model, with nine input channels."""
    return _with_channels(write_tiny_sd(folder, **scheduler), 9, "StableDiffusionInpaintPipeline")


def write_tiny_edit(folder: Path, **scheduler: Any) -> Path:
    """Write a tiny instruct-pix2pix, with eight input channels."""
    pipeline = "StableDiffusionInstructPix2PixPipeline"
    return _with_channels(write_tiny_sd(folder, **scheduler), 8, pipeline)


def write_tiny_depth(folder: Path, **scheduler: Any) -> Path:
    """Write a tiny depth-to-image model, with five input channels."""
    return _with_channels(write_tiny_sd(folder, **scheduler), 5, "StableDiffusionDepth2ImgPipeline")


def write_tiny_upscaling(folder: Path, **scheduler: Any) -> Path:
    """Write a tiny x4 upscaler: seven input channels, and a label for the noise level."""
    write_tiny_sd(folder, **scheduler)
    pipeline = "StableDiffusionUpscalePipeline"
    settings = {"num_class_embeds": 1000, "only_cross_attention": [True, False]}
    image_noise = {"_class_name": "DDPMScheduler", "beta_schedule": "scaled_linear"}
    _write(folder / "low_res_scheduler/scheduler_config.json", image_noise)
    _with_channels(folder, 7, pipeline, **settings)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index |= {"low_res_scheduler": ["diffusers", "DDPMScheduler"], "max_noise_level": 350}
    _write(folder / "model_index.json", index)
    _write_vae(folder, replace(AUTOENCODER, scaling_factor=0.08333))
    return folder


def _with_channels(folder: Path, channels: int, pipeline: str, **settings: Any) -> Path:
    """Replace the UNet of the model in `folder` by one with concat conditioning."""
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    _write(folder / "model_index.json", index | {"_class_name": pipeline})
    config = json.loads((folder / "unet/config.json").read_text("utf-8"))
    config |= {"in_channels": channels, **settings}
    unet = UNet(UNetConfig.from_dict(config))
    save_component(unet, config, folder / "unet", "diffusion_pytorch_model", torch.float32)
    return folder


def write_tiny_asymmetric(folder: Path) -> Path:
    """Replace the first stage of the model in `folder` by an asymmetric one, of factor 8."""
    torch.manual_seed(6)
    config = AsymmetricConfig(
        down_block_out_channels=(32, 32, 32, 64),
        layers_per_down_block=1,
        up_block_out_channels=(32, 64, 64, 64),
        layers_per_up_block=1,
    )
    network, stem = AsymmetricAutoencoderKL(config), "diffusion_pytorch_model"
    save_component(network, config.to_dict(), folder / "vae", stem, torch.float32)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["vae"] = ["diffusers", "AsymmetricAutoencoderKL"]
    _write(folder / "model_index.json", index)
    return folder


def write_tiny_distilled(folder: Path) -> Path:
    """Replace the UNet of the model in `folder` by a guidance-distilled one (LCM)."""
    path = folder / "unet/config.json"
    config = json.loads(path.read_text("utf-8")) | {"time_cond_proj_dim": 24}
    torch.manual_seed(5)
    unet = UNet(UNetConfig.from_dict(config))
    with torch.no_grad():
        unet.time_embedding.cond_proj.weight.mul_(4)  # so that the guidance scale has an effect
    save_component(unet, config, folder / "unet", "diffusion_pytorch_model", torch.float32)
    scheduler = folder / "scheduler/scheduler_config.json"
    lcm = {"_class_name": "LCMScheduler", "clip_sample": False, "original_inference_steps": 50}
    _write(scheduler, json.loads(scheduler.read_text("utf-8")) | lcm)
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    index["scheduler"] = ["diffusers", "LCMScheduler"]
    if index["_class_name"] == "StableDiffusionPipeline":
        index["_class_name"] = "LatentConsistencyModelPipeline"
    _write(folder / "model_index.json", index)
    return folder


def write_tiny_sdxl(folder: Path, **scheduler: Any) -> Path:
    """Write a tiny SDXL base: two text encoders, sizes and pooled text in the embedding."""
    torch.manual_seed(2)
    unet = UNetConfig(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        cross_attention_dim=2 * CONTEXT,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=CONTEXT + 6 * 8,
    )
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": True,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    _write_common(folder, unet, index, scheduler)
    _write_text(folder, "", CONTEXT, with_projection=False)
    _write_text(folder, "_2", CONTEXT, with_projection=True, pad="!")
    return folder


def write_tiny_refiner(folder: Path, **scheduler: Any) -> Path:
    """Write a tiny SDXL refiner: only the second text encoder, and an aesthetic score."""
    torch.manual_seed(3)
    unet = UNetConfig(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=2,
        attention_head_dim=(2, 4),
        cross_attention_dim=CONTEXT,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=CONTEXT + 5 * 8,
    )
    index = {
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    _write_common(folder, unet, index, scheduler)
    _write_text(folder, "_2", CONTEXT, with_projection=True, pad="!")
    return folder


def write_tiny_controlnet(folder: Path, model: Path, seed: int = 3, *, pools: bool = False) -> Path:
    """Write a tiny ControlNet for the model in folder `model`, with a strong effect."""
    torch.manual_seed(seed)
    unet = UNetConfig.from_dict(json.loads((model / "unet/config.json").read_text("utf-8")))
    config = ControlNetConfig(
        replace(unet, in_channels=unet.out_channels, time_cond_proj_dim=None),
        conditioning_embedding_out_channels=(8, 8, 16),
        global_pool_conditions=pools,
    )
    net, stem = ControlNet(config), "diffusion_pytorch_model"
    with torch.no_grad():  # the zero convolutions of a trained ControlNet have larger weights
        for conv in (*net.controlnet_down_blocks, net.controlnet_mid_block):
            for parameter in conv.parameters():
                parameter.mul_(12)
    save_component(net, config.to_dict(), folder, stem, torch.float32)
    return folder


def _write_common(
    folder: Path, unet: UNetConfig, index: dict[str, Any], scheduler: dict[str, Any]
) -> None:
    _write(
        folder / "model_index.json",
        {
            "_diffusers_version": "0.42.0",
            "scheduler": ["diffusers", "PNDMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            **index,
        },
    )
    _write(folder / "scheduler/scheduler_config.json", SCHEDULER | scheduler)
    stem = "diffusion_pytorch_model"
    save_component(UNet(unet), unet.to_dict(), folder / "unet", stem, torch.float32)
    _write_vae(folder, AUTOENCODER)


def _write_vae(folder: Path, config: AutoencoderConfig) -> None:
    stem = "diffusion_pytorch_model"
    save_component(AutoencoderKL(config), config.to_dict(), folder / "vae", stem, torch.float32)


def _write_text(
    folder: Path, suffix: str, width: int, *, with_projection: bool, pad: str = END
) -> None:
    vocabulary = _vocabulary()
    config = TextEncoderConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        eos_token_id=vocabulary[END],
        projection_dim=width,
        with_projection=with_projection,
    )
    save_component(
        TextEncoder(config), config.to_dict(), folder / f"text_encoder{suffix}", "model",
        torch.float32,
    )  # fmt: skip
    tokenizer = folder / f"tokenizer{suffix}"
    _write(tokenizer / "vocab.json", vocabulary)
    (tokenizer / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n", "utf-8")
    _write(
        tokenizer / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": 77,
            "bos_token": START,
            "eos_token": END,
            "unk_token": END,
            "pad_token": pad,
        },
    )


def _vocabulary() -> dict[str, int]:
    """Return a vocabulary in CLIP's order: bytes, bytes that end a word, merges, special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*alphabet, *(f"{byte}</w>" for byte in alphabet), *merged, START, END]
    return {token: i for i, token in enumerate(tokens)}


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False), "utf-8")
