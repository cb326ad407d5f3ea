"""Families of published models, as folders with narrow networks and random weights.

The configurations are those of the published `unet/config.json` and `scheduler_config.json`,
without keys that have their defaults. diffusers writes the weights of the UNets.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch

from tests.support.tiny_models import CONTEXT, write_tiny_sd, write_tiny_sdxl

_CROSS, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
_UP_CROSS, _UP_PLAIN = "CrossAttnUpBlock2D", "UpBlock2D"

SD1_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [_CROSS, _CROSS, _CROSS, _PLAIN],
    "up_block_types": [_UP_PLAIN, _UP_CROSS, _UP_CROSS, _UP_CROSS],
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}
SD2_UNET: dict[str, Any] = SD1_UNET | {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
    "upcast_attention": True,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [_PLAIN, _CROSS, _CROSS],
    "up_block_types": [_UP_CROSS, _UP_CROSS, _UP_PLAIN],
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
# Distilled from SDXL: fewer transformer blocks, others in the decoder, no attention in the middle.
SSD_1B_UNET: dict[str, Any] = SDXL_UNET | {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [2, 2], [4, 4]],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
VEGA_UNET: dict[str, Any] = SDXL_UNET | {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, [1, 1], [2, 2]],
    "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
}
KOALA_UNET: dict[str, Any] = SDXL_UNET | {
    "mid_block_type": None,
    "layers_per_block": 1,
    "transformer_layers_per_block": [1, 2, 5],
}
# Distilled from Stable Diffusion 1.4 (BK-SDM) and 1.5 (tiny-sd).
BK_SDM_SMALL_UNET: dict[str, Any] = SD1_UNET | {"mid_block_type": None, "layers_per_block": 1}
TINY_SD_UNET: dict[str, Any] = BK_SDM_SMALL_UNET | {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [_CROSS, _CROSS, _CROSS],
    "up_block_types": [_UP_CROSS, _UP_CROSS, _UP_CROSS],
}
# Of no published model: what else diffusers allows.
UNEVEN_UNET: dict[str, Any] = SD1_UNET | {
    "layers_per_block": [1, 2, 1, 3],
    "transformer_layers_per_block": [[2], [1, 3], 1, 1],
    "reverse_transformer_layers_per_block": [1, [2, 1], 2, [1, 2]],
}
UPSCALER_UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 7,
    "block_out_channels": [256, 512, 512, 1024],
    "down_block_types": [_PLAIN, _CROSS, _CROSS, _CROSS],
    "up_block_types": [_UP_CROSS, _UP_CROSS, _UP_CROSS, _UP_PLAIN],
    "attention_head_dim": 8,
    "cross_attention_dim": 1024,
    "num_class_embeds": 1000,
    "only_cross_attention": [True, True, True, False],
    "use_linear_projection": True,
}
UPSCALER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
    "clip_sample": False,
}
IMAGE_NOISE = {"_class_name": "DDPMScheduler", "beta_schedule": "scaled_linear"}
V_PREDICTION = {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
EULER_ANCESTRAL = {"_class_name": "EulerAncestralDiscreteScheduler"}
EULER = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
# Of Playground v2.5 and CosXL, without the fields that have their defaults.
EDM_DPM = {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_data": 0.5, "sigma_max": 80.0}
EDM_EULER = {
    "_class_name": "EDMEulerScheduler",
    "sigma_data": 1.0,
    "sigma_max": 120.0,
    "sigma_min": 0.002,
    "prediction_type": "v_prediction",
    "sigma_schedule": "exponential",
}
_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
FLOW_DPM = {"_class_name": "DPMSolverMultistepScheduler", **_FLOW}
FLOW_MATCH = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
FLOW_UNIPC = {"_class_name": "UniPCMultistepScheduler", **_FLOW}

# The latents of Playground v2.5, normalised by the statistics of each channel.
NORMALISED = {
    "scaling_factor": 0.5,
    "latents_mean": [-1.6574, 1.886, -1.383, 2.5155],
    "latents_std": [8.4927, 5.9022, 6.5498, 5.2299],
}


@dataclass(frozen=True)
class Published:
    """A family: its pipeline, and its entries of the scheduler, UNet, first stage and index."""

    name: str
    pipeline: str
    unet: Mapping[str, Any]
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    sampler: str = "plms"
    schedule: str = "leading"
    vae: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_sdxl(self) -> bool:
        return "StableDiffusionXL" in self.pipeline

    @property
    def is_inpainting(self) -> bool:
        return "Inpaint" in self.pipeline

    @property
    def is_edit(self) -> bool:
        return "Pix2Pix" in self.pipeline

    @property
    def reads_depth(self) -> bool:
        return "Depth2Img" in self.pipeline

    @property
    def upscales(self) -> bool:
        return "Upscale" in self.pipeline

    def __str__(self) -> str:
        return self.name


def narrow(unet: Mapping[str, Any]) -> dict[str, Any]:
    """Return a UNet's configuration with all its blocks and few channels."""
    levels = len(unet["block_out_channels"])
    sdxl = unet.get("addition_embed_type") is not None
    heads = unet["attention_head_dim"]
    added = {
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": CONTEXT + 6 * 8,
    }
    return {
        **unet,
        "sample_size": 8,
        "block_out_channels": [32, 32, 64, 64][:levels],
        "attention_head_dim": [2, 2, 4, 4][:levels] if isinstance(heads, list) else heads,
        "cross_attention_dim": 2 * CONTEXT if sdxl else CONTEXT,
        **(added if sdxl else {}),
    }


def write(published: Published, folder: Path) -> Path:
    """Write the folder of a family with narrow networks."""
    (write_tiny_sdxl if published.is_sdxl else write_tiny_sd)(folder)
    if published.scheduler:
        path = folder / "scheduler/scheduler_config.json"
        _write(path, _read(path) | dict(published.scheduler))
    index = _read(folder / "model_index.json") | {"_class_name": published.pipeline}
    index |= published.index
    if published.upscales:
        index["low_res_scheduler"] = ["diffusers", IMAGE_NOISE["_class_name"]]
        (folder / "low_res_scheduler").mkdir()
        _write(folder / "low_res_scheduler/scheduler_config.json", IMAGE_NOISE)
    index["scheduler"] = [
        "diffusers",
        _read(folder / "scheduler/scheduler_config.json")["_class_name"],
    ]
    _write(folder / "model_index.json", index)
    if published.unet.get("cross_attention_dim") == SD2_UNET["cross_attention_dim"]:
        path = folder / "text_encoder/config.json"
        _write(path, _read(path) | {"hidden_act": "gelu"})
    path = folder / "vae/config.json"
    _write(path, _read(path) | dict(published.vae))
    torch.manual_seed(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = diffusers.UNet2DConditionModel.from_config(narrow(published.unet))
        network.save_pretrained(folder / "unet")
    return folder


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return data


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data), "utf-8")
