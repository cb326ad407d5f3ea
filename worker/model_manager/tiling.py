"""Decides which images the autoencoder processes in tiles, by their size alone.

So a request gives the same bytes under any load. Two machines with different amounts of memory may
still decide differently, unless the tile size is set.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from models.executors.tiling import Tiling, bytes_per_pixel, tiled
from models.pipeline import LatentDiffusion

SHARE = 0.25  # of the device's total memory: the most that decoding one image may take

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def with_tiles(model: LatentDiffusion, side: int | None) -> LatentDiffusion:
    """Return the model with an autoencoder for images of any size.

    Images with a longer side than `side` pixels are tiled; 0: none, None: those that would need
    too much memory.
    """
    if side == 0:
        return model
    tiling = _by_memory(model) if side is None else Tiling(side)
    return replace(model, executors=tiled(model.executors, model.autoencoder, tiling))


def _by_memory(model: LatentDiffusion) -> Tiling:
    usual = model.unet.config.sample_size * model.autoencoder.config.factor
    bytes_for_one = SHARE * memory(model.device)
    return Tiling(usual, whole=int(bytes_for_one / bytes_per_pixel(model.autoencoder)))


def memory(device: torch.device) -> int:
    """Return the total memory of the device in bytes; for a CPU, at most the container's limit."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return min(physical, int(limit)) if limit.isdigit() else physical
