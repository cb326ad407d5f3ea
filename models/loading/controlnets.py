"""The installed ControlNets, each loaded when a request names it.

    folder/<name>/config.json, diffusion_pytorch_model.safetensors

A requested name is looked up among the names in the folder; it is never used as a path.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch

from models.checkpoints.checkpoint import CheckpointError, load_component, read_json
from models.checkpoints.files import installed_weights, os_errors_of
from models.checkpoints.readers.headers import read_header
from models.networks.controlnet import ControlNet, ControlNetConfig
from models.pipeline import LatentDiffusion

KEPT = 4  # most recently used ControlNets that stay in memory


def load_controlnet(folder: Path, dtype: torch.dtype, device: torch.device) -> ControlNet:
    """Load a ControlNet. Raises CheckpointError."""
    return load_component(
        folder, lambda config: ControlNet(ControlNetConfig.from_dict(config)), dtype, device
    )


def misfit(folder: Path, model: LatentDiffusion) -> str | None:
    """Return the reason the ControlNet in `folder` does not fit `model`, or None if it fits."""
    try:
        config = ControlNetConfig.from_dict(read_json(folder / "config.json"))
    except CheckpointError as error:
        return str(error)
    except Exception as error:  # of any kind: the others are still offered
        return f"{type(error).__name__}: {error}"
    return config.mismatch(model.unet.config, model.autoencoder.config.factor)


def _weights(file: Path) -> int:
    """Return the number of weights in a file; 0 if it cannot be read, and so never loaded."""
    try:
        return sum(prod(entry.shape) for entry in read_header(file).entries.values())
    except CheckpointError:
        return 0


class ControlNets:
    """ControlNets by name, in a folder that may be absent. Thread-safe."""

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self._folder = folder
        self._kept = kept
        self._loaded: OrderedDict[tuple[object, ...], ControlNet] = OrderedDict()
        self._lock = threading.Lock()

    def misfits(self, model: LatentDiffusion) -> Mapping[str, str | None]:
        """Return, by name, the reason a ControlNet does not fit `model`, or None if it fits."""
        return {
            name: misfit(file.parent, model)
            for name, file in installed_weights(self._folder).items()
        }

    def fitting(self, model: LatentDiffusion) -> tuple[str, ...]:
        """Return the names of those that fit `model`."""
        return tuple(name for name, reason in self.misfits(model).items() if reason is None)

    def reserve(self, dtype: torch.dtype) -> int:
        """Return the bytes of the largest that may be loaded together, with weights of `dtype`."""
        sizes = (_weights(file) for file in installed_weights(self._folder).values())
        largest = sorted(sizes, reverse=True)[: self._kept]
        return sum(largest) * dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the loaded ones."""
        with self._lock:
            loaded = list(self._loaded.values())
        return sum(parameter.nbytes for net in loaded for parameter in net.parameters())

    def get(self, name: str, model: LatentDiffusion) -> ControlNet:
        """Return the ControlNet `name`, in the precision and on the device of `model`.

        Raises CheckpointError if there is none of that name, or it cannot be loaded or does not
        fit the model.
        """
        weights = installed_weights(self._folder).get(name)
        if weights is None:
            raise CheckpointError(f"no ControlNet is called {name!r}")
        if reason := misfit(weights.parent, model):
            raise CheckpointError(f"the ControlNet {name!r} does not fit the model: {reason}")
        # The modification times make replaced files another ControlNet.
        files = (weights, weights.with_name("config.json"))
        with os_errors_of(weights):
            times = tuple(file.stat().st_mtime_ns for file in files)
        key = name, times, model.dtype, model.device
        with self._lock:
            if key not in self._loaded:
                while len(self._loaded) >= self._kept:
                    self._loaded.popitem(last=False)
                self._loaded[key] = load_controlnet(weights.parent, model.dtype, model.device)
            self._loaded.move_to_end(key)
            return self._loaded[key]
