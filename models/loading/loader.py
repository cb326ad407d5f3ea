"""From a folder or hub id to a `LatentDiffusion` ready to draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from models.autoencoders.first_stage import FirstStage
from models.autoencoders.registry import first_stage_folder, load_compatible, load_first_stage
from models.checkpoints.checkpoint import CheckpointError, load_component, read_json, resolve
from models.checkpoints.hub import fetch
from models.conditioners.textual_inversion import with_embeddings
from models.executors.eager import eager_executors
from models.loading.kinds import KINDS, Published
from models.networks.config import UNetConfig, mismatch
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from models.samplers.noise_schedule import NoiseSchedule

BUNDLED = Path(__file__).parents[1] / "bundled"

FOUND = 0.1  # the share of loading that is done once all files are here

Report = Callable[[float, str], None]

# What a UNet has in common with the one whose place it takes: what it is told, and what it draws.
_SHARED = (
    "in_channels",
    "out_channels",
    "cross_attention_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)


def default_device() -> torch.device:
    """The best device present: CUDA, then Apple's, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Half precision on accelerators, single on the CPU."""
    return torch.float32 if device.type == "cpu" else torch.float16


def load_model(
    path_or_id: str,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    report: Report = lambda fraction, what: None,
    embeddings: Path | None = None,
    unet: Path | None = None,
) -> LatentDiffusion:
    """Load a model in the published diffusers layout.

    `path_or_id` is a folder, a hub id or "bundled". `report` hears the share done, 0 to 1, and
    what comes next. `embeddings`: a folder of words learned by textual inversion. `unet`: the
    folder of a network in place of the model's own, as `latent-consistency/lcm-sdxl` for SDXL.
    Raises CheckpointError (missing, mismatching or unsupported).
    """
    device = device or default_device()
    dtype = dtype or default_dtype(device)
    report(0.0, "finding files")
    half = dtype != torch.float32
    download = partial(fetch, half=half, report=Fetching(report))
    folder = BUNDLED if path_or_id == "bundled" else resolve(path_or_id, download)
    index = read_json(folder / "model_index.json")
    kind = KINDS.get(str(index.get("_class_name")))
    if kind is None:
        raise CheckpointError(
            f"{path_or_id}: pipeline {index.get('_class_name')!r} is not supported; "
            f"have {', '.join(KINDS)}"
        )
    report(FOUND, "what reads requests")
    published = Published(folder, index, dtype, device)
    conditioner, concat_conditioning = (
        kind.conditioner(published),
        kind.concat_conditioning(published),
    )
    if embeddings is not None:
        conditioner = with_embeddings(conditioner, embeddings)
    report(0.3, "autoencoder")
    autoencoder = load_first_stage(first_stage_folder(folder), dtype, device)
    report(0.5, "unet")
    denoiser = _unet(folder / "unet", unet, dtype, device)
    schedule = NoiseSchedule.from_config(read_json(folder / "scheduler/scheduler_config.json"))
    report(1.0, "loaded")
    return LatentDiffusion(
        conditioner=conditioner,
        unet=denoiser,
        autoencoder=autoencoder,
        executors=eager_executors(denoiser, autoencoder),
        noise_schedule=schedule,
        device=device,
        dtype=dtype,
        folder=folder,
        concat_conditioning=concat_conditioning,
        patches=kind.patches,
        tiny=_tiny(folder / "tiny_vae", autoencoder, dtype, device),
    )


def _unet(own: Path, other: Path | None, dtype: torch.dtype, device: torch.device) -> UNet:
    """The model's own, or another that is told the same and draws the same latents."""
    unet = load_component(other or own, lambda c: UNet(UNetConfig.from_dict(c)), dtype, device)
    if other is None:
        return unet
    replaced = UNetConfig.from_dict(read_json(own / "config.json"))
    pairs = {key: (getattr(unet.config, key), getattr(replaced, key)) for key in _SHARED}
    if wrong := mismatch(pairs):
        raise CheckpointError(f"{other} does not fit the model: {wrong}")
    return unet


class Fetching:
    """Tells how much has been fetched, once for each percent, as what comes first of loading: a
    `models.checkpoints.hub.Report`."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._told = -1

    def __call__(self, here: int, total: int) -> None:
        percent = 100 * here // max(total, 1)
        if percent != self._told:
            self._told = percent
            words = f"fetching, {here / 1e9:.2f} of {total / 1e9:.2f} GB"
            self._report(FOUND * min(here / max(total, 1), 1.0), words)


def _tiny(
    folder: Path, full: FirstStage, dtype: torch.dtype, device: torch.device
) -> FirstStage | None:
    """The tiny autoencoder that an operator has put beside the model's own, if one has."""
    return load_compatible(folder, full, dtype, device) if folder.is_dir() else None
