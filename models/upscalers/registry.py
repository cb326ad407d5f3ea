"""Registry of the upscalers, and loading from a folder with a config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from models.checkpoints.checkpoint import load_component, read_json
from models.checkpoints.detect.kinds import OTHER_UPSCALER
from models.checkpoints.errors import UnsupportedConfig
from models.checkpoints.files import weight_files
from models.checkpoints.meta import meta_device
from models.checkpoints.weights import Weights
from models.upscalers.compact import CompactConfig, SRVGGNetCompact
from models.upscalers.config import UpscalerConfig
from models.upscalers.other_architectures import OtherUpscaler, build_other
from models.upscalers.rrdb import RRDBConfig, RRDBNet

Network = RRDBNet | SRVGGNetCompact | OtherUpscaler

# `_class_name` of a config.json -> configuration and network.
_CONFIGS: Mapping[str, Callable[[Mapping[str, Any]], RRDBConfig | CompactConfig]] = {
    "RRDBNet": RRDBConfig.from_dict,
    "SRVGGNetCompact": CompactConfig.from_dict,
}


def build_upscaler(config: Mapping[str, Any]) -> RRDBNet | SRVGGNetCompact:
    """Build the network of a config.json without its weights. Raises UnsupportedConfig."""
    read = _CONFIGS.get(str(config.get("_class_name")))
    if read is None:
        raise UnsupportedConfig(
            f"upscaler {config.get('_class_name')!r} is not supported; have {', '.join(_CONFIGS)}"
        )
    sizes = read(config)
    return RRDBNet(sizes) if isinstance(sizes, RRDBConfig) else SRVGGNetCompact(sizes)


def load_upscaler(folder: Path, dtype: torch.dtype, device: torch.device) -> Network:
    """Load the upscaler of `folder`, in single precision if it does not run in half.

    Raises CheckpointError and UnsupportedConfig.
    """
    if is_ours(folder):
        return load_component(folder, build_upscaler, dtype, device)
    return _load_other(folder, dtype, device)


def is_ours(folder: Path) -> bool:
    """Return False for an upscaler that needs spandrel. Raises CheckpointError."""
    return read_json(folder / "config.json").get("_class_name") != OTHER_UPSCALER


def _load_other(folder: Path, dtype: torch.dtype, device: torch.device) -> OtherUpscaler:
    weights = Weights.open(folder.name, weight_files(folder, half=False), torch.device("cpu"))
    network = build_other({name: weights.tensor(name) for name in weights.plan})
    halved = dtype if network.config.half else torch.float32
    return network.to(device, halved).eval().requires_grad_(False)


def upscaler_config(folder: Path) -> UpscalerConfig:
    """Return the facts of the upscaler in `folder`, from its config.json if the network is ours.

    Raises CheckpointError and UnsupportedConfig.
    """
    if not is_ours(folder):
        return _load_other(folder, torch.float32, torch.device("cpu")).config
    with meta_device():
        return build_upscaler(read_json(folder / "config.json")).config
