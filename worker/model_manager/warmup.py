"""What a worker does between loading and ready: choose what runs the networks, and measure it."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

import models.tuning.cuda_autotune as gpu
from models.autoencoders.preview import LinearPreview
from models.cuda.stream import StreamedDecoder
from models.denoising.sampling_params import SamplingParams
from models.loading.controlnets import ControlNets
from models.lora.registry import LoraRegistry
from models.networks.attention import autotune_attention, available_kernels, use_kernel
from models.pipeline import LatentDiffusion
from models.tuning import executor_autotune as choice
from worker.engine.decoding import BesideSteps, BetweenSteps, Decoding
from worker.engine.engine import Engine
from worker.engine.merged_loras import MIB, MergedLoras
from worker.engine.resident import Resident
from worker.engine.safety import safety_of
from worker.model_info.compatibility import CONTROLNETS, LORAS
from worker.model_manager.profiling import ready_profile
from worker.model_manager.tiling import with_tiles
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

PROFILE_SHARE = 0.3  # of the time for measuring: what step times get of it

Size = tuple[int, int]  # width, height in pixels


def ready_resident(model: LatentDiffusion, size: Size, settings: WorkerSettings) -> Resident:
    """The model, ready to draw by the fastest means there are; `size` is the usual one.

    First-time set-up is done here, so that no client pays for it. Raises ValueError if the
    settings name something that is not available on this machine.
    """
    if model.tiny is None:
        model = replace(model, linear_preview=LinearPreview.fitted(model.autoencoder))
    model = with_tiles(ready_model(model, size, settings), settings.worker_vae_tile)
    most_rows = 2 * settings.worker_slots
    profile = ready_profile(
        model,
        size,
        most_rows,
        PROFILE_SHARE * settings.worker_tune_s,
        made_by=model.executors.name,
        cache=_writable(settings.worker_cache),
    )
    return Resident(model, profile, safety_of(model, settings.worker_safety))


def empty_engine(device: torch.device, settings: WorkerSettings) -> Engine:
    """An engine that waits for models on `device`."""
    decoding: Decoding = BetweenSteps()
    if device.type == "cuda":
        decoding = BesideSteps(StreamedDecoder(device))
    same_bytes = settings.worker_same_bytes
    variants = MergedLoras(
        LoraRegistry(settings.models_home / LORAS), settings.worker_lora_cache_mb * MIB
    )
    return Engine(
        {},
        settings.worker_slots,
        decoding=decoding,
        same_bytes=same_bytes,
        variants=variants,
        controlnets=ControlNets(settings.models_home / CONTROLNETS),
    )


def ready_model(model: LatentDiffusion, size: Size, settings: WorkerSettings) -> LatentDiffusion:
    """The same model, run by what measures fastest for pictures of `size`. Raises ValueError."""
    if settings.worker_attention != "auto":
        _use_attention(model, settings.worker_attention)
    if model.device.type == "cuda":
        return gpu.autotune_cuda(model, size, _cuda_options(settings))
    if settings.worker_attention == "auto":
        autotune_attention(model.unet, lambda: _draw_one_step(model, size))
    if model.device.type == "cpu":
        model = replace(model, executors=choice.autotune_executors(model, _cpu_options(settings)))
    _draw_one_step(model, size)
    return model


def _cpu_options(settings: WorkerSettings) -> choice.ExecutorOptions:
    return choice.ExecutorOptions(
        settings.worker_executor,
        settings.worker_precision,
        settings.worker_same_bytes,
        rows=2 * settings.worker_slots,
        budget_s=settings.worker_tune_s,
        cache=_writable(settings.worker_cache),
    )


def _cuda_options(settings: WorkerSettings) -> gpu.CudaOptions:
    return gpu.CudaOptions(
        fp8=settings.worker_precision == "fp8",
        autotune_attention=settings.worker_attention == "auto",
        same_bytes=settings.worker_same_bytes,
        rows=2 * settings.worker_slots,
        budget_s=settings.worker_tune_s,
    )


def _use_attention(model: LatentDiffusion, attention: str) -> None:
    kernels = available_kernels()
    if attention not in kernels:
        raise ValueError(f"attention kernel is {attention!r}, but here are {', '.join(kernels)}")
    use_kernel(model.unet, kernels[attention])


def _draw_one_step(model: LatentDiffusion, size: Size) -> None:
    width, height = size
    recipe = SamplingParams("", width=width, height=height, steps=1, guidance_scale=2.0)
    last = list(model.generate([recipe]))[-1]
    model.decode(torch.stack([t.x for t in last]))


def _writable(cache: Path) -> Path | None:
    """The folder, made if need be; None where nothing can be kept."""
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if os.access(cache, os.W_OK):
        return cache
    logger.warning("nothing is kept for the next start", extra={"folder": str(cache)})
    return None
