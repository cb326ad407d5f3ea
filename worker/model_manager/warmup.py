"""Prepares a loaded model: chooses what runs its networks, and measures its steps."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from models.autoencoders.preview import LinearPreview
from models.cuda.stream import StreamedDecoder
from models.denoising.sampling_params import SamplingParams
from models.executors.base import Network, Run
from models.loading.controlnets import ControlNets
from models.loading.embeddings import Embeddings
from models.loading.upscalers import Upscalers
from models.lora.registry import LoraRegistry
from models.networks.attention import autotune_attention, available_kernels, use_kernel
from models.pipeline import LatentDiffusion
from models.tuning import cuda_autotune, executor_autotune
from worker.engine.decoding import Decoding, InlineDecoding, StreamedDecoding
from worker.engine.engine import DiffusionEngine
from worker.engine.loaded_model import LoadedModel
from worker.engine.merged_loras import MIB, MergedLoras
from worker.engine.safety import safety_of
from worker.model_info.extra_networks import CONTROLNETS, LORAS, UPSCALERS
from worker.model_info.model_description import EMBEDDINGS
from worker.model_info.weights_dtype import weights_dtype
from worker.model_manager.profiling import ready_profile
from worker.model_manager.tiling import with_tiles
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

PROFILE_SHARE = 0.3  # of the time for measurements: the share for step times

Size = tuple[int, int]  # width, height in pixels


def ready_resident(model: LatentDiffusion, size: Size, settings: WorkerSettings) -> LoadedModel:
    """Return the model prepared to run as fast as this machine allows; `size` is its usual one.

    Set-up that happens once is done here, so that no job waits for it. Raises ValueError if the
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
    return LoadedModel(model, profile, safety_of(model, settings.worker_safety))


def installed_upscalers(device: torch.device, settings: WorkerSettings) -> Upscalers:
    """Return the upscalers of the model store, each with the executor that measures fastest."""

    def choose(network: Network, eager: Run) -> Run:
        if device.type != "cpu":
            return eager
        # In float32, because bfloat16 has fewer levels than the pixels.
        options = replace(_cpu_options(settings), precision="fp32")
        name, run = executor_autotune.autotune(network, eager, (1,), options)
        logger.info("upscaler's executor: %s", name)
        return run

    dtype = weights_dtype(device, settings.worker_precision)
    return Upscalers(settings.models_home / UPSCALERS, device, dtype, choose)


def empty_engine(
    device: torch.device, settings: WorkerSettings, upscalers: Upscalers | None = None
) -> DiffusionEngine:
    """Return an engine without models on `device`."""
    decoding: Decoding = InlineDecoding()
    if device.type == "cuda":
        decoding = StreamedDecoding(StreamedDecoder(device))
    loras = LoraRegistry(settings.models_home / LORAS)
    return DiffusionEngine(
        {},
        settings.worker_slots,
        decoding=decoding,
        same_bytes=settings.worker_same_bytes,
        merged_loras=MergedLoras(loras, settings.worker_lora_cache_mb * MIB),
        controlnets=ControlNets(settings.models_home / CONTROLNETS),
        embeddings=Embeddings(settings.models_home / EMBEDDINGS),
        upscalers=upscalers,
    )


def reserved_bytes(
    settings: WorkerSettings, device: torch.device, models: Iterable[Path] = ()
) -> int:
    """Return the bytes that merged LoRAs and ControlNets may take beside the models.

    Of LoRAs, their cache, if any is installed or comes with one of the `models`, which are folders;
    of ControlNets, the largest that stay loaded.
    """
    registry = LoraRegistry(settings.models_home / LORAS)
    loras = registry.files() or any(map(registry.files, models))
    dtype = weights_dtype(device, settings.worker_precision)
    controlnets = ControlNets(settings.models_home / CONTROLNETS).reserve(dtype)
    return controlnets + (settings.worker_lora_cache_mb * MIB if loras else 0)


def ready_model(model: LatentDiffusion, size: Size, settings: WorkerSettings) -> LatentDiffusion:
    """Return the model with the executor and attention that are fastest for images of `size`.

    Raises ValueError if the settings name something that is not available on this machine.
    """
    if settings.worker_attention != "auto":
        _use_attention(model, settings.worker_attention)
    if model.device.type == "cuda":
        return cuda_autotune.autotune_cuda(model, size, _cuda_options(settings))
    if settings.worker_attention == "auto":
        autotune_attention(model.unet, lambda: _run_one_step(model, size))
    if model.device.type == "cpu":
        executors = executor_autotune.autotune_executors(model, _cpu_options(settings))
        model = replace(model, executors=executors)
    _run_one_step(model, size)
    return model


def _cpu_options(settings: WorkerSettings) -> executor_autotune.ExecutorOptions:
    return executor_autotune.ExecutorOptions(
        settings.worker_executor,
        settings.worker_precision,
        settings.worker_same_bytes,
        rows=2 * settings.worker_slots,
        budget_s=settings.worker_tune_s,
        cache=_writable(settings.worker_cache),
    )


def _cuda_options(settings: WorkerSettings) -> cuda_autotune.CudaOptions:
    return cuda_autotune.CudaOptions(
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


def _run_one_step(model: LatentDiffusion, size: Size) -> None:
    width, height = size
    sampler, schedule = model.noise_schedule.default_sampler
    params = SamplingParams(
        "",
        width=width,
        height=height,
        steps=1,
        sampler=sampler,
        schedule=schedule,
        guidance_scale=2.0,
    )
    last = list(model.generate([params]))[-1]
    model.decode(torch.stack([state.x for state in last]))


def _writable(cache: Path) -> Path | None:
    """Return the folder, created if necessary; None if it cannot be written to."""
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if os.access(cache, os.W_OK):
        return cache
    logger.warning("measurements are not cached", extra={"folder": str(cache)})
    return None
