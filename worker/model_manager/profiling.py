"""Measures step times before a worker is ready, and caches them on disk for the next start."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.executors.stopwatch import best_seconds
from models.pipeline import LatentDiffusion
from worker.engine.memory import free_bytes
from worker.engine.step_profile import LEAST_ROWS, Measurement, StepProfile, row_counts

logger = logging.getLogger(__name__)

STEPS = 50  # of the sampling parameters; only a few steps are run
REPEATS = 3


def ready_profile(
    model: LatentDiffusion,
    size: tuple[int, int],
    most_rows: int,
    budget_s: float,
    *,
    made_by: str,
    cache: Path | None,
) -> StepProfile:
    """Return the profile of `model` on its device, measured at `size` (width, height in pixels).

    Measuring takes about `budget_s` seconds at most; larger batches are extrapolated. `made_by`
    names what else step times depend on (the executor). `cache` is a folder; None: no cache.
    """
    key = [_weights(model.folder), str(model.dtype), made_by, _machine(model.device), str(size)]
    file = None
    if cache is not None:
        digest = hashlib.sha256("\n".join([*key, str(most_rows)]).encode()).hexdigest()[:32]
        file = cache / f"steps-{digest}.json"
    measured = _read(file)
    if measured is None:
        measured = measure(model, size, most_rows, budget_s)
        _write(file, measured, model.folder)
    profile = StepProfile(measured, most_rows, free_bytes(model.device))
    logger.info(
        "steps measured",
        extra={
            "milliseconds_by_rows": {n: round(1e3 * s, 1) for n, s in measured.seconds.items()},
            "best_rows": profile.best_rows(measured.group),
            "cap": profile.cap(measured.group),
        },
    )
    return profile


def measure(
    model: LatentDiffusion, size: tuple[int, int], most_rows: int, budget_s: float
) -> Measurement:
    """Time steps of growing batches of images until the time or the memory is used up.

    Images are guided if the model supports it. The smallest batch is always timed.
    """
    width, height = size
    sampler, schedule = model.noise_schedule.default_sampler
    params = SamplingParams(
        "",
        width=width,
        height=height,
        steps=STEPS,
        sampler=sampler,
        schedule=schedule,
        guidance_scale=2.0,
    )
    group = model.latent_shape(width, height)
    [one] = model.start(params, [0])
    deadline = time.monotonic() + budget_s
    seconds: dict[int, float] = {}
    bytes_per_cell = 0.0
    for rows in row_counts(most_rows):
        started = time.monotonic()
        try:
            batch = model.start(params, range(rows // one.rows))
            model.advance(batch)  # the first step of a shape may choose kernels or capture a graph
            before = _reset_peak_memory(model.device)
            left_s = deadline - time.monotonic()
            seconds[rows] = best_seconds(partial(_step, model, batch), REPEATS, left_s)
        except torch.OutOfMemoryError:
            if rows == LEAST_ROWS:
                raise
            break
        needed = _peak_memory(model.device) - before
        bytes_per_cell = max(bytes_per_cell, needed / (rows * group[-1] * group[-2]))
        now = time.monotonic()
        if now + 2 * (now - started) > deadline:  # the next batch is twice the size
            break
    return Measurement(group, seconds, bytes_per_cell)


def _step(model: LatentDiffusion, batch: list[DenoisingState]) -> None:
    """Run a step and wait until the device has finished it."""
    model.advance(batch)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _reset_peak_memory(device: torch.device) -> int:
    """Reset the peak memory, and return the bytes in use now; 0 where they are not counted."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak_memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def _weights(folder: Path) -> str:
    """Return names, sizes and times of the files, as a hash would take longer than measuring."""
    files = sorted(folder.rglob("*.safetensors"))
    stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return json.dumps([str(folder), stats])


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{torch.backends.cpu.get_cpu_capability()} {os.cpu_count()}"
    return f"{device.type} {name} {torch.get_num_threads()} torch {torch.__version__}"


def _read(file: Path | None) -> Measurement | None:
    """Return the cached measurement, or None if there is none or it cannot be read."""
    try:
        cached = json.loads(file.read_text()) if file else None
        if cached is None:
            return None
        seconds = {int(rows): float(s) for rows, s in cached["seconds"].items()}
        return Measurement(tuple(cached["group"]), seconds, float(cached["bytes_per_cell"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def step_bytes(cache: Path, model: Path) -> int | None:
    """Return the bytes that a step of one guided image of the usual size takes.

    The figure is from the newest measurement in `cache` of the model in that folder; None: no
    worker has measured it.
    """
    for file in sorted(cache.glob("steps-*.json"), key=lambda file: -file.stat().st_mtime):
        measured = _read(file)
        if measured and measured.bytes_per_cell and _model_of(file) == str(model.resolve()):
            height, width = measured.group[-2:]
            return round(measured.bytes_per_cell * LEAST_ROWS * height * width)
    return None


def _model_of(file: Path) -> object:
    return json.loads(file.read_text()).get("model")


def _write(file: Path | None, measured: Measurement, model: Path) -> None:
    """Write the measurement atomically; without a writable folder the next start measures again."""
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as temporary:
            json.dump(asdict(measured) | {"model": str(model.resolve())}, temporary)
        os.replace(temporary.name, file)
    except OSError as error:
        logger.warning("step times are not cached", extra={"error": type(error).__name__})
