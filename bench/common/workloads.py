"""Models and settings of the benchmarks: the bundled model, SD 1.5, SDXL and a tiny model.

SD 1.5 and SDXL have their published sizes. All but the bundled model have random weights, which
take the same time as trained ones, and the bundled tokenizer. They are written once, in the
published layout and half precision, so that Darkroom and diffusers load the same files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.checkpoint import save_component
from models.loading.loader import BUNDLED
from models.networks.config import TextEncoderConfig, UNetConfig
from models.networks.text_encoder import TextEncoder
from models.networks.unet import UNet
from models.upscalers.compact import CompactConfig
from models.upscalers.registry import build_upscaler
from models.upscalers.rrdb import RRDBConfig

WRITTEN = Path("var/bench")
STEM = "diffusion_pytorch_model"
SEED = 0


@dataclass(frozen=True)
class Workload:
    """A model and the settings of its requests."""

    name: str
    side: int
    steps: int
    sampler: str
    guidance_scale: float
    schedule: str = "trailing"

    def smaller(self) -> Workload:
        """Return the workload with two steps, for smoke runs and warm-up."""
        return replace(self, steps=2)


# Stored results without the name of a workload are of the bundled model as it was, for 64 × 64.
BUNDLED_EMOJI = Workload("bundled128", 128, 20, "dpmpp_2m", 4.0)
SD15 = Workload("sd15", 512, 30, "dpmpp_2m", 7.5)
SDXL = Workload("sdxl", 1024, 20, "euler", 8.0)  # the setting of MLPerf Inference
TINY = Workload("tiny", 32, 3, "ddim", 4.0)  # for benchmarks that do not measure the model
TINY_SD = Workload("tiny_sd", 64, 1, "euler", 4.0)  # eight pixels a latent, as Stable Diffusion
SMALL = (BUNDLED_EMOJI, TINY)  # fast on a CPU
WORKLOADS = {workload.name: workload for workload in (*SMALL, SD15, SDXL)}


@dataclass(frozen=True)
class Architecture:
    """The networks of a model, by their published configurations."""

    pipeline: str
    unet: UNetConfig
    autoencoder: AutoencoderConfig
    text: tuple[TextEncoderConfig, ...]


CLIP_L = TextEncoderConfig()
CLIP_BIG_G = TextEncoderConfig(
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    hidden_act="gelu",
    projection_dim=1280,
    with_projection=True,
)
ARCHITECTURES = {
    "sd15": Architecture("StableDiffusionPipeline", UNetConfig(), AutoencoderConfig(), (CLIP_L,)),
    "sdxl": Architecture(
        "StableDiffusionXLPipeline",
        UNetConfig(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        # The widely used autoencoder that was fixed for half precision.
        AutoencoderConfig(sample_size=1024, scaling_factor=0.13025),
        (CLIP_L, CLIP_BIG_G),
    ),
    "tiny": Architecture(
        "StableDiffusionPipeline",
        UNetConfig(
            sample_size=8,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=32,
        ),
        AutoencoderConfig(
            sample_size=32,
            block_out_channels=(32, 32, 64),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
        ),
        (
            TextEncoderConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                projection_dim=32,
            ),
        ),
    ),
}
# As few operations as possible for each pixel, so that large images take minutes.
ARCHITECTURES["tiny_sd"] = replace(
    ARCHITECTURES["tiny"],
    unet=replace(
        ARCHITECTURES["tiny"].unet,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ),
    autoencoder=AutoencoderConfig(
        sample_size=64,
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
    ),
)
# In the published widths, with a few layers: their number takes time, but no memory for pixels.
UPSCALERS: Mapping[str, CompactConfig | RRDBConfig] = {
    "SRVGGNetCompact": CompactConfig(convolutions=1),  # realesr-general-x4v3 has 32
    "RRDBNet": RRDBConfig(blocks=1),  # RealESRGAN_x4plus has 23
}
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


def folder(workload: Workload) -> Path:
    """Return the folder of the workload's model; write the model if it does not exist."""
    if workload.name == BUNDLED_EMOJI.name:
        return BUNDLED
    written = WRITTEN / workload.name
    if not (written / "model_index.json").exists():  # written last
        _write(ARCHITECTURES[workload.name], written)
    return written


def upscaler_folder() -> Path:
    """Return the folder of `UPSCALERS`; write those that do not exist."""
    for name, sizes in UPSCALERS.items():
        target = WRITTEN / "upscalers" / name
        if not target.exists():
            torch.manual_seed(SEED)
            config = {"_class_name": name, **asdict(sizes)}
            _save(build_upscaler(config), config, target, STEM)
    return WRITTEN / "upscalers"


def _write(architecture: Architecture, target: Path) -> None:
    torch.manual_seed(SEED)
    unet, autoencoder = architecture.unet, architecture.autoencoder
    _save(UNet(unet), unet.to_dict(), target / "unet", STEM)
    _save(AutoencoderKL(autoencoder), autoencoder.to_dict(), target / "vae", STEM)
    end_id = json.loads((BUNDLED / "text_encoder/config.json").read_text())["eos_token_id"]
    for number, config in enumerate(architecture.text):
        suffix = f"_{number + 1}" if number else ""
        config = replace(config, eos_token_id=end_id)
        _save(TextEncoder(config), config.to_dict(), target / f"text_encoder{suffix}", "model")
        shutil.copytree(BUNDLED / "tokenizer", target / f"tokenizer{suffix}", dirs_exist_ok=True)
    _write_json(target / "scheduler/scheduler_config.json", SCHEDULER)
    _write_json(target / "model_index.json", _index(architecture))


def _save(network: nn.Module, config: dict[str, Any], target: Path, stem: str) -> None:
    save_component(network, config, target, stem, torch.float16)


def _index(architecture: Architecture) -> dict[str, Any]:
    index: dict[str, Any] = {
        "_class_name": architecture.pipeline,
        "_diffusers_version": "0.42.0",
        "scheduler": ["diffusers", SCHEDULER["_class_name"]],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    if len(architecture.text) == 1:
        index |= {
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        }
    else:
        index |= {
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": True,
        }
    return index


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n")
