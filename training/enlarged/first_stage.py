"""The first stage for images of twice the side: its start, its two stages and its files.

Training starts from the averaged weights of a model's folder with fresh optimisers, so it can go on
from any version that was committed. `training.json` beside the weights counts the images seen.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.checkpoint import load_component, save_component
from training.checkpointing import images_seen, write_images_seen
from training.data import EmojiImages, averaged
from training.decoder_stage import refine
from training.device import training_device
from training.ema import EMA
from training.enlarged.decoder_stage import SharpDecoderStage
from training.enlarged.encoder_stage import EncoderStage
from training.enlarged.growth import config_of, enlarge
from training.latents import Latents
from training.runner import Cadence, run

ENCODER_SHARE = 0.25  # of the time


@dataclass(frozen=True)
class Folders:
    """Folders of a run: the model it starts from, checkpoints, and the model it writes."""

    model: Path
    work: Path

    @property
    def decoder(self) -> Path:
        return self.work / "enlarged-decoder"

    @property
    def encoder(self) -> Path:
        return self.work / "enlarged-encoder"

    @property
    def result(self) -> Path:
        return self.work / "enlarged-model"


@dataclass(frozen=True)
class Budget:
    """Steps of the decoder and of the encoder, images of each, and seconds of the whole."""

    decoder_steps: int
    encoder_steps: int
    batch: int
    limit_s: float = math.inf

    def cadence(self, share: float) -> Cadence:
        """Return the cadence of a stage that may use a share of the time."""
        return Cadence(limit_s=share * self.limit_s)


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """Load the autoencoder of a folder in single precision, on the CPU."""
    return load_component(
        folder,
        lambda config: AutoencoderKL(AutoencoderConfig.from_dict(config)),
        torch.float32,
        torch.device("cpu"),
    )


def train(folders: Folders, art: EmojiImages, budget: Budget) -> None:
    """Train the decoder, then the encoder, from the model's weights or the last checkpoints."""
    trained = load_autoencoder(folders.model / "vae").to(training_device())
    side = art.pixels.shape[1]
    latents = encoded(trained, art, folders.work / "enlarged-latents.pt")
    network = trained if config_of(trained).sample_size == side else enlarge(trained)
    seen = images_seen(folders.model)
    print(f"starts from {folders.model}; images seen by earlier runs: {seen or 'none'}")
    weights = torch.from_numpy(np.sqrt(art.weights))
    decoder = SharpDecoderStage(network, latents, art.pixels, weights, budget.batch)
    run(decoder, folders.decoder, budget.decoder_steps, budget.cadence(1 - ENCODER_SHARE))
    refine(network, folders.decoder / "checkpoint.pt")
    network.requires_grad_(False)
    encoder = EncoderStage(network, latents, art.pixels, budget.batch)
    run(encoder, folders.encoder, budget.encoder_steps, budget.cadence(ENCODER_SHARE))
    write(folders, network, seen, budget.batch)


def encoded(autoencoder: AutoencoderKL, art: EmojiImages, file: Path) -> Latents:
    """Return the latents of all images in the size of `autoencoder`; the first call stores them."""
    if not file.exists():
        factor = art.pixels.shape[1] // config_of(autoencoder).sample_size
        Latents.encode(autoencoder, averaged(art.pixels, factor)).save(file)
    return Latents.load(file)


def write(folders: Folders, network: AutoencoderKL, seen: dict[str, int], batch: int) -> None:
    """Write the model with the averaged weights of the last checkpoints, and its record."""
    parts = {
        "enlarged decoder": (
            folders.decoder,
            nn.ModuleList([network.post_quant_conv, network.decoder]),
        ),
        "enlarged encoder": (folders.encoder, nn.ModuleList([network.encoder, network.quant_conv])),
    }
    record = dict(seen)
    for name, (folder, part) in parts.items():
        record[name] = seen.get(name, 0) + load_average(part, folder / "checkpoint.pt") * batch
    config = network.config.to_dict()
    shutil.copytree(folders.model, folders.result, dirs_exist_ok=True)
    save_component(
        network, config, folders.result / "vae", "diffusion_pytorch_model", torch.float16
    )
    write_images_seen(folders.result, record)
    print(f"{folders.result}: images seen: {record}")


def load_average(part: nn.Module, checkpoint: Path) -> int:
    """Load the averages of a checkpoint into `part` and return the checkpoint's step."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    ema = EMA([part], decay=0.0)
    ema.load_state_dict(state["ema"])
    ema.swap()
    step: int = state["step"]
    return step
