"""The first stage for images of twice the side: its start, its two stages and its files.

Training starts from the averaged weights of a model's folder with fresh optimisers, so it can go on
from any version that was committed. `training.json` beside the weights counts the images seen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.checkpoint import load_component, save_component
from training.data import EmojiImages
from training.decoder_stage import muted_hues, refine
from training.ema import EMA
from training.enlarged.decoder_stage import SharpDecoderStage
from training.enlarged.encoder_stage import EncoderStage
from training.enlarged.growth import enlarge
from training.icons import read_json
from training.latents import Latents
from training.runner import run

BATCH = 8
_RECORD = "training.json"


@dataclass(frozen=True)
class Folders:
    """Folders of a run: the model it starts from, checkpoints, and the network it writes."""

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
        return self.work / "enlarged-vae"


def load_autoencoder(folder: Path) -> AutoencoderKL:
    """Load the autoencoder of a folder in single precision, on the CPU."""
    return load_component(
        folder,
        lambda config: AutoencoderKL(AutoencoderConfig.from_dict(config)),
        torch.float32,
        torch.device("cpu"),
    )


def images_seen(folder: Path) -> dict[str, int]:
    """Return the images that earlier runs have seen, by the name of the network's part."""
    file = folder / _RECORD
    seen: dict[str, int] = read_json(file) if file.exists() else {}
    return seen


def train(folders: Folders, art: EmojiImages, decoder_steps: int, encoder_steps: int) -> None:
    """Train the decoder, then the encoder, from the model's weights or the last checkpoints."""
    trained = load_autoencoder(folders.model / "vae")
    side = art.pixels.shape[1]
    latents = encoded(trained, art, folders.work / "enlarged-latents.pt")
    if trained.config.sample_size == side:
        network, seen = trained, images_seen(folders.model / "vae")
    else:
        network, seen = enlarge(trained), {}
    print(f"starts from {folders.model}; images seen by earlier runs: {seen or 'none'}")
    decoder = SharpDecoderStage(network, latents, art.pixels, muted_hues(art.pixels), BATCH)
    run(decoder, folders.decoder, decoder_steps)
    refine(network, folders.decoder / "checkpoint.pt")
    network.requires_grad_(False)
    encoder = EncoderStage(network, latents, art.pixels, BATCH)
    run(encoder, folders.encoder, encoder_steps)
    write(folders, network, seen)


def encoded(autoencoder: AutoencoderKL, art: EmojiImages, file: Path) -> Latents:
    """Return the latents of all images in the size of `autoencoder`; the first call stores them."""
    if not file.exists():
        factor = art.pixels.shape[1] // autoencoder.config.sample_size
        Latents.encode(autoencoder, averaged(art.pixels, factor)).save(file)
    return Latents.load(file)


def averaged(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Return images (N, S, S, 3) uint8 averaged over squares of `factor` pixels."""
    count, side, _, channels = pixels.shape
    if factor == 1:
        return pixels
    squares = pixels.reshape(count, side // factor, factor, side // factor, factor, channels)
    return np.rint(squares.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def write(folders: Folders, network: AutoencoderKL, seen: dict[str, int]) -> None:
    """Write the network with the averaged weights of the last checkpoints, and its record."""
    parts = {
        "decoder": (folders.decoder, nn.ModuleList([network.post_quant_conv, network.decoder])),
        "encoder": (folders.encoder, nn.ModuleList([network.encoder, network.quant_conv])),
    }
    record = dict(seen)
    for name, (folder, part) in parts.items():
        record[name] = seen.get(name, 0) + load_average(part, folder / "checkpoint.pt") * BATCH
    config = network.config.to_dict()
    save_component(network, config, folders.result, "diffusion_pytorch_model", torch.float16)
    (folders.result / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"{folders.result}: images seen: {record}")


def load_average(part: nn.Module, checkpoint: Path) -> int:
    """Load the averages of a checkpoint into `part` and return the checkpoint's step."""
    state = torch.load(checkpoint, weights_only=True)
    ema = EMA([part], decay=0.0)
    ema.load_state_dict(state["ema"])
    ema.swap()
    step: int = state["step"]
    return step
