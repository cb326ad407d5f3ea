"""The installed ControlNets, each loaded when a request names it.

    folder/<name>/config.json, diffusion_pytorch_model.safetensors

A requested name is looked up among the names in the folder; it is never used as a path.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch

from models.checkpoints.checkpoint import CheckpointError, load_component, read_json
from models.checkpoints.errors import UnsupportedConfig
from models.networks.controlnet import ControlNet, ControlNetConfig
from models.pipeline import LatentDiffusion

KEPT = 4  # most recently used ControlNets that stay in memory


def load_controlnet(folder: Path, dtype: torch.dtype, device: torch.device) -> ControlNet:
    """Load a ControlNet. Raises CheckpointError (missing, mismatching) or UnsupportedConfig."""
    return load_component(
        folder, lambda config: ControlNet(ControlNetConfig.from_dict(config)), dtype, device
    )


class ControlNets:
    """ControlNets by name, in a folder that may be absent. Thread-safe."""

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self._folder = folder
        self._kept = kept
        self._loaded: OrderedDict[tuple[object, ...], ControlNet] = OrderedDict()
        self._lock = threading.Lock()

    def misfits(self, model: LatentDiffusion) -> Mapping[str, str | None]:
        """Return, by name, the reason a ControlNet does not fit `model`, or None if it fits."""
        return {name: self._misfit(name, model) for name in self._weights()}

    def fitting(self, model: LatentDiffusion) -> tuple[str, ...]:
        """Return the names of those that fit `model`."""
        return tuple(name for name, reason in self.misfits(model).items() if reason is None)

    def get(self, name: str, model: LatentDiffusion) -> ControlNet:
        """Return the ControlNet `name`, in the precision and on the device of `model`.

        Raises CheckpointError if there is none of that name, or it cannot be loaded or does not
        fit the model.
        """
        weights = self._weights().get(name)
        if weights is None:
            raise CheckpointError(f"no ControlNet is called {name!r}")
        if reason := self._misfit(name, model):
            raise CheckpointError(f"the ControlNet {name!r} does not fit the model: {reason}")
        # The modification time makes a replaced file another ControlNet.
        key = name, weights.stat().st_mtime_ns, model.dtype, model.device
        with self._lock:
            if key not in self._loaded:
                while len(self._loaded) >= self._kept:
                    self._loaded.popitem(last=False)
                self._loaded[key] = load_controlnet(self._folder / name, model.dtype, model.device)
            self._loaded.move_to_end(key)
            return self._loaded[key]

    def _weights(self) -> dict[str, Path]:
        """Return the weights file of each complete ControlNet, by name."""
        found = sorted(self._folder.glob("*/*.safetensors"))
        return {
            weights.parent.name: weights
            for weights in found
            if (weights.parent / "config.json").is_file()
        }

    def _misfit(self, name: str, model: LatentDiffusion) -> str | None:
        try:
            config = ControlNetConfig.from_dict(read_json(self._folder / name / "config.json"))
        except (CheckpointError, UnsupportedConfig) as error:
            return str(error)
        return config.mismatch(model.unet.config, model.autoencoder.config.factor)
