"""Upscalers in the engine: the methods that a request names, and its image."""

from __future__ import annotations

import torch

from models.checkpoints.checkpoint import CheckpointError
from models.loading.upscalers import Upscalers
from models.upscalers.resampling import FILTERS
from models.upscalers.upscaling import Method, Upscaling
from protocol.errors import JobFailed
from worker.engine.pixels import rgb_pixels
from worker.interfaces import AdmittedJob


def method_of(name: str, upscalers: Upscalers | None) -> Method:
    """Return the upscaler or filter of that name, loading it if necessary. Raises JobFailed."""
    if name in FILTERS:
        return name
    if upscalers is None:
        raise JobFailed("this worker has no upscalers")
    try:
        return upscalers.get(name)
    except CheckpointError as error:
        raise JobFailed(str(error)) from error
    except torch.OutOfMemoryError as error:
        raise JobFailed("its upscaler does not fit into this worker's memory") from error


def upscaling_of(job: AdmittedJob, upscalers: Upscalers | None) -> Upscaling | None:
    """Return the upscaling that a job consists of; None for a job that generates.

    Raises JobFailed.
    """
    asked, size = job.request.upscaling, (job.request.width, job.request.height)
    if asked is None:
        return None
    assert job.image is not None
    methods = [method_of(name, upscalers) for name in asked.names]
    return Upscaling(rgb_pixels(job.image), size, methods, asked.blend)
