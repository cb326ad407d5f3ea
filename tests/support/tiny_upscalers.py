"""Upscalers with random weights and few channels, as they lie in the model store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from models.checkpoints.checkpoint import save_component
from models.upscalers.compact import CompactConfig, SRVGGNetCompact
from models.upscalers.rrdb import RRDBConfig, RRDBNet

STEM = "diffusion_pytorch_model"


def write_tiny_compact(folder: Path, scale: int = 4, seed: int = 1) -> Path:
    """Write an SRVGGNetCompact that changes its image by a little noise."""
    torch.manual_seed(seed)
    config = CompactConfig(width=8, convolutions=2, upscale=scale)
    saved = {"_class_name": "SRVGGNetCompact", **asdict(config)}
    save_component(SRVGGNetCompact(config), saved, folder, STEM, torch.float32)
    return folder


def write_tiny_rrdb(folder: Path, *, doublings: int = 1, unshuffle: int = 1) -> Path:
    """Write an RRDBNet with one block."""
    torch.manual_seed(2)
    config = RRDBConfig(width=8, growth=4, blocks=1, doublings=doublings, unshuffle=unshuffle)
    save_component(
        RRDBNet(config), {"_class_name": "RRDBNet", **asdict(config)}, folder, STEM, torch.float32
    )
    return folder
