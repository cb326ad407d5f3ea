"""The installed upscalers, each loaded when a request names it.

    folder/<name>/config.json, diffusion_pytorch_model.safetensors

A requested name is looked up among the names in the folder; it is never used as a path.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.files import installed_weights
from models.checkpoints.readers.headers import read_header
from models.executors.base import Network, Run
from models.executors.eager import Eager
from models.upscalers import registry
from models.upscalers.config import RGB
from models.upscalers.other_architectures import OtherUpscaler
from models.upscalers.upscaling import Upscaler

log = logging.getLogger(__name__)

KEPT = 4  # most recently used upscalers that stay in memory
_EXAMPLE_SIDE = 64  # pixels of the image that executors are compared with

Choose = Callable[[Network, Run], Run]  # a network and its eager executor -> the one to use
_File = tuple[Path, int, int]  # folder, and times of change of weights and config.json


def eagerly(network: Network, eager: Run) -> Run:
    """Return the eager executor."""
    return eager


@dataclass(frozen=True)
class Installed:
    """An upscaler in the folder: its scale, and the bytes of its weights."""

    name: str
    scale: int
    nbytes: int


class Upscalers:
    """Upscalers by name, in a folder that may be absent. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        choose: Choose = eagerly,
    ) -> None:
        self._folder, self._device, self._dtype = folder, device, dtype
        self._choose = choose
        self._budget = inf
        self._known: dict[_File, Installed | None] = {}
        self._loaded: OrderedDict[_File, Upscaler] = OrderedDict()
        self._lock = threading.Lock()

    def reserve(self) -> int:
        """Return the bytes of the largest that may be loaded together, and load no more than that.

        Those added later are offered only if they fit into it.
        """
        sizes = sorted((one.nbytes for one in self._all().values()), reverse=True)
        self._budget = sum(sizes[:KEPT])
        return int(self._budget)

    def installed(self) -> tuple[Installed, ...]:
        """Return those that can be loaded, by name."""
        return tuple(self._all().values())

    def get(self, name: str) -> Upscaler:
        """Return the upscaler `name`, ready to run.

        Raises CheckpointError if there is none of that name, or it cannot be loaded.
        """
        file = self._files().get(name)
        if file is None or name not in self._all():
            raise CheckpointError(f"no upscaler is called {name!r}")
        with self._lock:
            if file not in self._loaded:
                needed = self._known[file]
                assert needed is not None
                self._make_room(needed.nbytes)
                self._loaded[file] = self._load(name, file[0], needed.nbytes)
            self._loaded.move_to_end(file)
            return self._loaded[file]

    def _make_room(self, needed: int) -> None:
        while self._loaded and (
            len(self._loaded) >= KEPT
            or sum(one.nbytes for one in self._loaded.values()) + needed > self._budget
        ):
            self._loaded.popitem(last=False)

    def _load(self, name: str, folder: Path, nbytes: int) -> Upscaler:
        module = registry.load_upscaler(folder, self._dtype, self._device)
        weight = next(module.parameters())

        def examples(rows: int) -> tuple[Tensor, ...]:
            generator = torch.Generator().manual_seed(rows)
            side = -(-max(_EXAMPLE_SIDE, module.config.least) // module.config.multiple)
            side *= module.config.multiple
            return (torch.rand(rows, RGB, side, side, generator=generator).to(weight),)

        network = Network("upscaler", module, examples, ((0, 2, 3),))
        run: Run = Eager(network, same_bytes=False)
        if not isinstance(module, OtherUpscaler):  # the others cannot all be traced
            run = self._choose(network, run)
        return Upscaler(name, module.config, run, self._device, weight.dtype, nbytes)

    def _all(self) -> Mapping[str, Installed]:
        found = {name: self._read(name, file) for name, file in self._files().items()}
        return {
            name: one
            for name, one in found.items()
            if one is not None and one.nbytes <= self._budget
        }

    def _files(self) -> dict[str, _File]:
        """Return each complete upscaler by name; a replaced one is another file."""
        files: dict[str, _File] = {}
        for name, weights in installed_weights(self._folder).items():
            config = weights.with_name("config.json")
            try:
                times = weights.stat().st_mtime_ns, config.stat().st_mtime_ns
            except OSError:  # removed at this moment
                continue
            files[name] = (weights.parent, *times)
        return files

    def _read(self, name: str, file: _File) -> Installed | None:
        """Return the facts of an upscaler, None if it cannot be used; each is read once."""
        with self._lock:
            if file not in self._known:
                self._known[file] = self._inspect(name, file[0])
            return self._known[file]

    def _inspect(self, name: str, folder: Path) -> Installed | None:
        try:
            scale = registry.upscaler_config(folder).scale
            headers = [read_header(path) for path in folder.glob("*.safetensors")]
            item = self._dtype.itemsize if registry.is_ours(folder) else torch.float32.itemsize
        except Exception as error:  # of any kind: the others are still offered
            log.warning("an upscaler is not offered: %s: %s", name, error)
            return None
        elements = sum(prod(shape) for header in headers for shape in header.shapes.values())
        return Installed(name, scale, item * elements)
