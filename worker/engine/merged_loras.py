"""Models with merged LoRAs: merged when requested, and cached."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Set
from dataclasses import dataclass

from torch import nn

from models.executors.merged import reuse_executor, run_eagerly
from models.lora.errors import LoraError
from models.lora.layers import Layers
from models.lora.merging import Strength, layers_of, networks, with_loras
from models.lora.original_names import BLOCKS
from models.lora.registry import LoraFile, LoraRegistry
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.loras.lora_use import BLOCK_LISTS, Loras, LoraUse, lora_windows

logger = logging.getLogger(__name__)

MIB = 2**20

WeightedFiles = tuple[tuple[LoraFile, Strength], ...]  # LoRAs and their strengths
Key = tuple[int, WeightedFiles]  # the number of the model, and what is merged into it


# Models by the share of the steps from which each is used; the first from 0 and for the prompts.
Timeline = tuple[tuple[float, LatentDiffusion], ...]


@dataclass(frozen=True)
class _MergedModel:
    model: LatentDiffusion
    nbytes: int


class MergedLoras:
    """A cache of a worker's merged models, the least recently used evicted first.

    A request may need several, one after the other.

    A model that slots still use stays in memory until they have finished. May be used from several
    threads: merging takes long, and the engine's thread must not wait for it.
    """

    def __init__(self, loras: LoraRegistry, budget: int) -> None:
        """`budget`: bytes for merged weights in addition to the models'; the models of the request
        that was served last are kept even if they take more."""
        self._loras = loras
        self._budget = budget
        self._cache: OrderedDict[Key, _MergedModel] = OrderedDict()
        self._layers: dict[int, Layers] = {}  # by number of the model
        self._lock = threading.Lock()
        self._merging = threading.Lock()  # one at a time: it takes memory and all cores

    def fitting(self, model: LatentDiffusion) -> tuple[str, ...]:
        """Return the names of the LoRAs that fit `model` now."""
        return self._loras.fitting(self._layers_of(model))

    def timeline(self, model: LatentDiffusion, loras: Loras) -> Timeline:
        """Return `model` with the LoRAs of each part of the steps merged, from the cache or new.

        It is `model` itself where none has an effect. Prompts are encoded with all of them. Raises
        JobFailed if a LoRA was removed, or does not fit any more.
        """
        files = self._loras.files(model.folder)
        if gone := [use.name for use in loras if use.name not in files]:
            raise JobFailed(f"the LoRA {gone[0]} is not here any more")
        (_, active), *later = lora_windows(loras)
        first = [(files[use.name], _strength(use, use in active, text=True)) for use in loras]
        sets = [(0.0, first)]
        for start, uses in later:
            sets.append(
                (start, [(files[use.name], _strength(use, True, text=False)) for use in uses])
            )
        keys = {start: (model.number, _in_order(weighted)) for start, weighted in sets}
        found = tuple(
            (start, (self._find(key) or self._merge(key, model)) if key[1] else model)
            for start, key in keys.items()
        )
        self._evict(set(keys.values()))
        return found

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
        names = [file.name for file, _ in key[1]]
        took = {"seconds": round(time.monotonic() - started, 3), "mib": nbytes // MIB}
        logger.info("LoRAs merged", extra={"loras": names, **took})
        return merged

    def _evict(self, kept: Set[Key]) -> None:
        """Evict the models used least recently until the budget is kept, but none of `kept`."""
        with self._lock:
            for key in [key for key in self._cache if key not in kept]:
                if sum(entry.nbytes for entry in self._cache.values()) <= self._budget:
                    return
                del self._cache[key]

    def _with_loras(self, model: LatentDiffusion, files: WeightedFiles) -> LatentDiffusion:
        layers = self._layers_of(model)
        whole = getattr(model.executors.denoiser, "weight_bytes", 0)
        # A graph holds all the weights, not only those that differ.
        run = run_eagerly if whole > self._budget else reuse_executor
        try:
            loras = [(self._loras.get(file.name, layers), strength) for file, strength in files]
            return with_loras(model, loras, run)
        except LoraError as error:
            raise JobFailed(str(error)) from error

    def _layers_of(self, model: LatentDiffusion) -> Layers:
        with self._lock:
            if model.number not in self._layers:
                self._layers[model.number] = layers_of(model)
            return self._layers[model.number]


def _strength(use: LoraUse, active: bool, *, text: bool) -> Strength:
    """Return the strengths of a LoRA; in the UNet only if it is `active`, else in the text only."""
    in_text = use.weight if use.text_encoder_weight is None else use.text_encoder_weight
    return Strength(
        use.weight if active else 0.0,
        in_text if text else 0.0,
        None if use.block_factors is None else _all_blocks(use.block_factors),
        words=text and use.has_effect,
    )


def _all_blocks(weights: tuple[float, ...]) -> tuple[float, ...]:
    """Return the weights of all blocks; 0 for those that a shorter list leaves out."""
    given = dict(zip(BLOCK_LISTS[len(weights)], weights, strict=True))
    return tuple(given.get(block, 0.0) for block in BLOCKS)


def _in_order(weighted: Iterable[tuple[LoraFile, Strength]]) -> WeightedFiles:
    """Return those with an effect in one order, as the last bits of a sum depend on it."""
    acting = [(file, s) for file, s in weighted if s.unet or s.text or s.words]
    return tuple(sorted(acting, key=lambda each: (each[0].name, str(each[1]))))


def _own_bytes(model: LatentDiffusion, merged: LatentDiffusion) -> int:
    """Return the bytes of `merged` that it does not share with `model`."""
    pairs = zip(networks(model).values(), networks(merged).values(), strict=True)
    run: int = getattr(merged.executors.denoiser, "weight_bytes", 0)
    return run + sum(_changed_bytes(before, after) for before, after in pairs)


def _changed_bytes(before: nn.Module, after: nn.Module) -> int:
    shared = {id(parameter) for parameter in before.parameters()}
    return sum(p.nbytes for p in after.parameters() if id(p) not in shared)
