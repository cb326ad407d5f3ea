"""When a picture passes the autoencoder in tiles: by its size alone, never by what else goes on.

So a request gives the same bytes whatever the load; but of two machines of which one has less
memory, that one may cut what the other does not, unless they are told.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from models.executors.tiling import Tiling, bytes_per_pixel, tiled
from models.pipeline import LatentDiffusion

SHARE = 0.25  # of the memory there is in all: what a picture may take while it is decoded

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def with_tiles(model: LatentDiffusion, side: int | None) -> LatentDiffusion:
    """The same model, for pictures of any size. `side`: above which pictures are cut, in pixels; 0
    for never, None for where memory demands it.
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
    """Bytes that the device has in all; of a CPU's, those that this container may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return min(physical, int(limit)) if limit.isdigit() else physical
