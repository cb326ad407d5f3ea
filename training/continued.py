"""Stage two from the weights of a finished model, with a fresh optimiser.

The model's folder is all that is needed: its UNet and text encoder hold averaged weights, its
autoencoder makes the latents, its tokenizer the token ids.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.conditioners.clip import text_stages
from models.loading.loader import load_model
from training.checkpointing import images_seen, write_images_seen
from training.data import EmojiImages
from training.device import training_device
from training.diffusion_stage import DiffusionStage, Examples
from training.enlarged.growth import config_of
from training.export import export
from training.latents import Latents
from training.presets import Preset
from training.runner import Cadence, run
from training.tokens import CaptionTokens

# Less than at first: a run is often short, and trained weights shall not be forgotten.
LEARNING_RATE = 4e-4


def image_size(folder: Path) -> int:
    """Return the side of the images of the model in `folder`."""
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    size: int = config["sample_size"]
    return size


def continued_stage(folder: Path, art: EmojiImages, batch_size: int) -> DiffusionStage:
    """Return stage two as the model in `folder` left it.

    Raises ValueError for images of another size than the model's.
    """
    model = load_model(str(folder), torch.device("cpu"), torch.float32)
    autoencoder = model.autoencoder
    assert isinstance(autoencoder, AutoencoderKL)
    (text,) = text_stages(model.conditioner)
    config = config_of(autoencoder)
    if (side := art.pixels.shape[1]) != config.sample_size:
        raise ValueError(f"the images have {side} pixels; {folder} is for {config.sample_size}")
    preset = Preset(
        image_size=config.sample_size,
        vocab_size=text.encoder.config.vocab_size,
        autoencoder=config,
        unet=model.unet.config,
        text_encoder=text.encoder.config,
    )
    encoded = Latents.encode(autoencoder.to(training_device()), art.pixels)
    # The UNet was trained with this factor; that of other images would be slightly different.
    latents = Latents(encoded.mean, encoded.std, config.scaling_factor)
    captions = CaptionTokens.encode(text.tokenizer, art.captions)
    examples = Examples(latents, captions, torch.from_numpy(art.weights))
    stage = DiffusionStage(
        preset, examples, autoencoder, text.tokenizer, batch_size, peak_rate=LEARNING_RATE
    )
    stage.unet.load_state_dict(model.unet.state_dict())
    stage.text_encoder.load_state_dict(text.encoder.state_dict())
    stage.ema.restart()
    return stage


def continue_training(
    folder: Path,
    art: EmojiImages,
    work: Path,
    steps: int,
    batch_size: int,
    cadence: Cadence | None = None,
) -> None:
    """Train the model in `folder` for more steps and write the result to `work`/model."""
    seen = images_seen(folder)
    print(f"starts from {folder}; images seen by earlier runs: {seen or 'none'}")
    stage = continued_stage(folder, art, batch_size)
    done = run(stage, work, steps, cadence)
    stage.ema.swap()
    result = work / "model"
    export(stage.model(), folder / "tokenizer", result)
    seen["diffusion"] = seen.get("diffusion", 0) + done * batch_size
    write_images_seen(result, seen)
    print(f"{result}: images seen: {seen}")
