"""Models with LoRAs: merged when they are asked for, and kept while there is room."""

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

Merged = tuple[tuple[LoraFile, float], ...]  # files and how strongly they count
Key = tuple[int, Merged]  # the number of the model, and what is merged into it


@dataclass(frozen=True)
class _Variant:
    model: LatentDiffusion
    nbytes: int


class MergedLoras:
    """The variants of a worker's models, the least recently used forgotten first.

    What slots still draw with stays in memory until they have finished. May be used from several
    threads: merging takes a while, and is not for the one that steps.
    """

    def __init__(self, shelf: LoraRegistry, budget: int) -> None:
        """`budget`: bytes that variants may take beside their models; the one used last is kept
        whatever it takes."""
        self.shelf = shelf
        self._budget = budget
        self._kept: OrderedDict[Key, _Variant] = OrderedDict()
        self._layers: dict[int, Layers] = {}  # by number of the model
        self._lock = threading.Lock()
        self._merging = threading.Lock()  # one at a time: it takes memory and all cores

    def fitting(self, model: LatentDiffusion) -> tuple[str, ...]:
        """The names of the LoRAs that `model` can be drawn with now."""
        return self.shelf.fitting(self._layers_of(model))

    def get(self, model: LatentDiffusion, loras: Loras) -> LatentDiffusion:
        """The variant of `model` with these LoRAs, kept or merged now; `model` itself with none.

        Raises JobFailed if one has gone, or does not fit any more.
        """
        files = self.shelf.files()
        if gone := [use.name for use in loras if use.name not in files]:
            raise JobFailed(f"the LoRA {gone[0]} is not here any more")
        # In one order, as the last bits of a sum depend on it.
        merged = tuple(sorted(((files[u.name], u.weight) for u in loras if u.weight), key=_name))
        if not merged:
            return model
        key = model.number, merged
        return self._find(key) or self._make(key, model)

    def forget(self, model: LatentDiffusion) -> None:
        """Let go of all variants of a model that goes itself."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == model.number]:
                del self._kept[key]
            self._layers.pop(model.number, None)

    @property
    def nbytes(self) -> int:
        """Bytes that the variants kept take beside their models."""
        with self._lock:
            return sum(variant.nbytes for variant in self._kept.values())

    def _find(self, key: Key) -> LatentDiffusion | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key].model

    def _make(self, key: Key, model: LatentDiffusion) -> LatentDiffusion:
        with self._merging:
            if (made := self._find(key)) is not None:  # by another thread, meanwhile
                return made
            started = time.monotonic()
            variant = self._merged(model, key[1])
            taken = _own_bytes(model, variant)
            with self._lock:
                self._kept[key] = _Variant(variant, taken)
                while sum(v.nbytes for v in self._kept.values()) > self._budget:
                    if len(self._kept) == 1:
                        break
                    self._kept.popitem(last=False)
        names = [file.name for file, _ in key[1]]
        took = {"seconds": round(time.monotonic() - started, 3), "mib": taken // MIB}
        logger.info("LoRAs merged", extra={"loras": names, **took})
        return variant

    def _merged(self, model: LatentDiffusion, files: Merged) -> LatentDiffusion:
        layers = self._layers_of(model)
        try:
            loras = [(self.shelf.get(file.name, layers), weight) for file, weight in files]
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


def _name(merged: tuple[LoraFile, float]) -> str:
    return merged[0].name


def _own_bytes(model: LatentDiffusion, variant: LatentDiffusion) -> int:
    """What the variant takes in memory that the model does not."""
    pairs = zip(networks(model).values(), networks(variant).values(), strict=True)
    run: int = getattr(variant.executors.denoiser, "weight_bytes", 0)
    return run + sum(_changed_bytes(before, after) for before, after in pairs)


def _changed_bytes(before: nn.Module, after: nn.Module) -> int:
    shared = {id(parameter) for parameter in before.parameters()}
    return sum(p.nbytes for p in after.parameters() if id(p) not in shared)
