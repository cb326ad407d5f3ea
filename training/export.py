"""Export of the trained model in the published diffusers layout, in half precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from models.checkpoints.checkpoint import save_component
from models.conditioners.clip import text_stages
from models.pipeline import LatentDiffusion
from training.diffusion_stage import SCHEDULER

_MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", SCHEDULER["_class_name"]],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def export(model: LatentDiffusion, tokenizer: Path, folder: Path) -> None:
    """Write `model` and its tokenizer's files into `folder`, replacing existing files."""
    encoder = text_stages(model.conditioner)[0].encoder
    extra = {"bos_token_id": encoder.config.vocab_size - 2, "dtype": "float16"}
    networks = (
        ("unet", model.unet, model.unet.config.to_dict(), "diffusion_pytorch_model"),
        ("vae", model.autoencoder, model.autoencoder.config.to_dict(), "diffusion_pytorch_model"),
        ("text_encoder", encoder, encoder.config.to_dict() | extra, "model"),
    )
    for part, network, config, stem in networks:
        save_component(network, config, folder / part, stem, torch.float16)
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    write_json(folder / "model_index.json", _MODEL_INDEX)
    (folder / "tokenizer").mkdir(exist_ok=True)
    for file in sorted(tokenizer.iterdir()):
        shutil.copyfile(file, folder / "tokenizer" / file.name)


def write_json(path: Path, data: object) -> None:
    """Write a JSON file with stable formatting, and create its folder if necessary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
