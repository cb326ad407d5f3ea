"""Loading of a `LatentDiffusion` from a folder, a single file or a hub id."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from models.autoencoders.first_stage import FirstStage
from models.autoencoders.registry import (
    first_stage_folder,
    load_compatible,
    load_first_stage,
    load_missing,
)
from models.checkpoints.checkpoint import (
    CheckpointError,
    CheckpointMissing,
    load_component,
    read_json,
    resolve,
)
from models.checkpoints.hub import fetch
from models.checkpoints.meta import META
from models.conditioners.concat_conditioning import ConcatConditioning
from models.conditioners.textual_inversion import with_embeddings
from models.executors.eager import eager_executors
from models.loading.pipelines import ModelFiles, pipeline_of
from models.loading.scheduler import read_noise_schedule, scheduler_notes
from models.loading.stated import NOTHING_STATED, Stated, stated_in
from models.networks.config import UNetConfig, mismatch
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parents[1] / "bundled"

FETCHED = 0.1  # the share of loading that is done once all files are fetched

# Called with the share done, 0 to 1, and the next step.
LoadProgress = Callable[[float, str], None]

# Settings that a UNet must share with the one it replaces: its conditioning and its latents.
_SHARED = (
    "in_channels",
    "out_channels",
    "cross_attention_dim",
    "addition_embed_type",
    "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
    "num_class_embeds",
)


def default_device() -> torch.device:
    """Return the best device present: CUDA, then Apple's, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Return half precision for accelerators, single for the CPU."""
    return torch.float32 if device.type == "cpu" else torch.float16


def load_model(
    path_or_id: str,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    report: LoadProgress = lambda fraction, what: None,
    embeddings: Path | None = None,
    unet: Path | None = None,
    first_stage: Path | None = None,
    stated: Stated = NOTHING_STATED,
) -> LatentDiffusion:
    """Load a model in the diffusers layout.

    path_or_id: a folder, a single file, a hub id or "bundled". report: called with the share done,
    0 to 1, and the next step. embeddings: a folder of textual inversion embeddings. unet: the
    folder of a network that replaces the model's own, as `latent-consistency/lcm-sdxl` for SDXL.
    first_stage: the folder of one that replaces the model's own, or that it lacks. stated: by the
    operator, in place of what the files say.

    Raises CheckpointError (missing, mismatching or unsupported).
    """
    device = device or default_device()
    dtype = dtype or default_dtype(device)
    report(0.0, "finding files")
    half = dtype != torch.float32
    download = partial(fetch, half=half, report=Fetching(report), ema=stated.ema)
    folder = BUNDLED if path_or_id == "bundled" else resolve(path_or_id, download)
    index = read_json(folder / "model_index.json")
    spec = pipeline_of(index, path_or_id)
    report(FETCHED, "conditioner")
    files = ModelFiles(folder, index, dtype, device)
    conditioner, concat_conditioning = spec.conditioner(files), spec.concat_conditioning(files)
    if embeddings is not None:
        conditioner = with_embeddings(conditioner, embeddings)
    report(0.3, "autoencoder")
    autoencoder = _first_stage(folder, first_stage, dtype, device)
    report(0.5, "unet")
    ema = stated.before(stated_in(folder)).ema
    denoiser = _unet(folder / "unet", unet, dtype, device, ema)
    _check_channels(denoiser, autoencoder, concat_conditioning)
    schedule = read_noise_schedule(folder, stated)
    for note in scheduler_notes(folder, stated) if device.type != "meta" else ():
        log.warning("%s: %s", path_or_id, note)
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
        patches=spec.patches,
        tiny=_tiny(folder / "tiny_vae", autoencoder, dtype, device),
    )


def _first_stage(
    model: Path, other: Path | None, dtype: torch.dtype, device: torch.device
) -> FirstStage:
    """Load the model's own first stage, or another in its place.

    Raises CheckpointMissing if there is neither, and CheckpointError for one that does not fit.
    """
    if other is None:
        return load_first_stage(first_stage_folder(model), dtype, device)
    try:
        own = load_first_stage(first_stage_folder(model), dtype, META).config
    except CheckpointMissing:
        unet = UNetConfig.from_dict(read_json(model / "unet/config.json"))
        return load_missing(
            other,
            unet.out_channels,
            sdxl=unet.addition_embed_type is not None,
            dtype=dtype,
            device=device,
        )
    return load_compatible(other, own, dtype, device)


def _unet(
    own: Path, other: Path | None, dtype: torch.dtype, device: torch.device, ema: bool | None
) -> UNet:
    """Load the model's own UNet, or another with the same conditioning and latents.

    ema: which weights of the model's own, see `load_component`.

    Raises CheckpointError for one that does not fit.
    """
    which = ema if other is None else None
    unet = load_component(
        other or own, lambda c: UNet(UNetConfig.from_dict(c)), dtype, device, which
    )
    if other is None:
        return unet
    replaced = UNetConfig.from_dict(read_json(own / "config.json"))
    pairs = {key: (getattr(unet.config, key), getattr(replaced, key)) for key in _SHARED}
    if wrong := mismatch(pairs):
        raise CheckpointError(f"{other} does not fit the model: {wrong}")
    return unet


def _check_channels(
    unet: UNet, first_stage: FirstStage, concat_conditioning: ConcatConditioning | None
) -> None:
    """Raise CheckpointError if the UNet takes other channels than it is given at every step."""
    latents, taken = first_stage.config.latent_channels, unet.config.in_channels
    further = 0 if concat_conditioning is None else concat_conditioning.count(latents)
    if taken != latents + further:
        raise CheckpointError(
            f"its UNet takes {taken} channels, but gets {latents} of the latents and {further} of "
            "its pipeline's inputs"
        )


class Fetching:
    """A `DownloadProgress` of `models.checkpoints.hub` that reports each percent of fetching."""

    def __init__(self, report: LoadProgress) -> None:
        self._report = report
        self._reported = -1

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent != self._reported:
            self._reported = percent
            what = f"fetching, {done / 1e9:.2f} of {total / 1e9:.2f} GB"
            self._report(FETCHED * min(done / max(total, 1), 1.0), what)


def _tiny(
    folder: Path, full: FirstStage, dtype: torch.dtype, device: torch.device
) -> FirstStage | None:
    """Load the tiny autoencoder in the model's folder, if there is one."""
    return load_compatible(folder, full.config, dtype, device) if folder.is_dir() else None
