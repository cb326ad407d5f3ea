"""Models with merged LoRAs: merged when requested, and cached."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from models.executors.merged import reuse_executor, run_eagerly
from models.lora.errors import LoraError
from models.lora.layers import Layers
from models.lora.merging import layers_of, networks, with_loras
from models.lora.registry import LoraFile, LoraRegistry
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.request import Loras

logger = logging.getLogger(__name__)

MIB = 2**20

WeightedFiles = tuple[tuple[LoraFile, float], ...]  # LoRAs and their weights
Key = tuple[int, WeightedFiles]  # the number of the model, and what is merged into it


@dataclass(frozen=True)
class _MergedModel:
    model: LatentDiffusion
    nbytes: int


class MergedLoras:
    """A cache of a worker's merged models, the least recently used evicted first.

    A model that slots still use stays in memory until they have finished. May be used from several
    threads: merging takes long, and the engine's thread must not wait for it.
    """

    def __init__(self, loras: LoraRegistry, budget: int) -> None:
        """`budget`: bytes for merged weights in addition to the models'; the model used last is
        kept even if it takes more."""
        self._loras = loras
        self._budget = budget
        self._cache: OrderedDict[Key, _MergedModel] = OrderedDict()
        self._layers: dict[int, Layers] = {}  # by number of the model
        self._lock = threading.Lock()
        self._merging = threading.Lock()  # one at a time: it takes memory and all cores

    def fitting(self, model: LatentDiffusion) -> tuple[str, ...]:
        """Return the names of the LoRAs that fit `model` now."""
        return self._loras.fitting(self._layers_of(model))

    def get(self, model: LatentDiffusion, loras: Loras) -> LatentDiffusion:
        """Return `model` with these LoRAs merged, from the cache or new; `model` itself with none.

        Raises JobFailed if a LoRA was removed, or does not fit any more.
        """
        files = self._loras.files()
        if gone := [use.name for use in loras if use.name not in files]:
            raise JobFailed(f"the LoRA {gone[0]} is not here any more")
        # In one order, as the last bits of a sum depend on it.
        weighted = tuple(sorted(((files[u.name], u.weight) for u in loras if u.weight), key=_name))
        if not weighted:
            return model
        key = model.number, weighted
        return self._find(key) or self._merge(key, model)

    def forget(self, model: LatentDiffusion) -> None:
        """Evict all merged models of a model that is evicted itself."""
        with self._lock:
            for key in [key for key in self._cache if key[0] == model.number]:
                del self._cache[key]
            self._layers.pop(model.number, None)

    @property
    def nbytes(self) -> int:
        """Bytes of the merged weights, in addition to those of the models."""
        with self._lock:
            return sum(merged.nbytes for merged in self._cache.values())

    def _find(self, key: Key) -> LatentDiffusion | None:
        with self._lock:
            if key not in self._cache:
                return None
            self._cache.move_to_end(key)
            return self._cache[key].model

    def _merge(self, key: Key, model: LatentDiffusion) -> LatentDiffusion:
        with self._merging:
            if (found := self._find(key)) is not None:  # merged by another thread meanwhile
                return found
            started = time.monotonic()
            merged = self._with_loras(model, key[1])
            nbytes = _own_bytes(model, merged)
            with self._lock:
                self._cache[key] = _MergedModel(merged, nbytes)
                while sum(entry.nbytes for entry in self._cache.values()) > self._budget:
                    if len(self._cache) == 1:
                        break
                    self._cache.popitem(last=False)
        names = [file.name for file, _ in key[1]]
        took = {"seconds": round(time.monotonic() - started, 3), "mib": nbytes // MIB}
        logger.info("LoRAs merged", extra={"loras": names, **took})
        return merged

    def _with_loras(self, model: LatentDiffusion, files: WeightedFiles) -> LatentDiffusion:
        layers = self._layers_of(model)
        try:
            loras = [(self._loras.get(file.name, layers), weight) for file, weight in files]
        except LoraError as error:
            raise JobFailed(str(error)) from error
        whole = getattr(model.executors.denoiser, "weight_bytes", 0)
        # A graph holds all the weights, not only those that differ.
        return with_loras(model, loras, run_eagerly if whole > self._budget else reuse_executor)

    def _layers_of(self, model: LatentDiffusion) -> Layers:
        with self._lock:
            if model.number not in self._layers:
                self._layers[model.number] = layers_of(model)
            return self._layers[model.number]


def _name(weighted: tuple[LoraFile, float]) -> str:
    return weighted[0].name


def _own_bytes(model: LatentDiffusion, merged: LatentDiffusion) -> int:
    """Return the bytes of `merged` that it does not share with `model`."""
    pairs = zip(networks(model).values(), networks(merged).values(), strict=True)
    run: int = getattr(merged.executors.denoiser, "weight_bytes", 0)
    return run + sum(_changed_bytes(before, after) for before, after in pairs)


def _changed_bytes(before: nn.Module, after: nn.Module) -> int:
    shared = {id(parameter) for parameter in before.parameters()}
    return sum(p.nbytes for p in after.parameters() if id(p) not in shared)
