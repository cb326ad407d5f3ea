"""The installed textual inversion embeddings, which may change while models are used."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

from models.conditioners.textual_inversion import SUFFIX, with_embeddings
from models.pipeline import LatentDiffusion

Files = tuple[tuple[str, int, int], ...]  # names, sizes and times of change


class Embeddings:
    """The embeddings in a folder, which may be absent, for several models. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._extended: dict[int, tuple[Files, LatentDiffusion]] = {}  # by number of the model

    def extended(self, model: LatentDiffusion) -> LatentDiffusion:
        """Return the model with the words of the embeddings that fit it now.

        It is the same object until a file changes, and `model` itself without any. Its cache of
        prompts counts on from the one before.
        """
        files = self._files()
        with self._lock:
            read, before = self._extended.get(model.number, ((), model))
            if files == read:
                return before
            conditioner = with_embeddings(model.conditioner, self._folder)
            after = model
            if conditioner is not model.conditioner:
                conditioner.embeddings.count_from(before.conditioner.embeddings)
                after = replace(model, conditioner=conditioner)
            self._extended[model.number] = files, after
            return after

    def current(self, model: LatentDiffusion) -> LatentDiffusion:
        """Return what `extended` returned last, without a look at the folder."""
        with self._lock:
            return self._extended.get(model.number, ((), model))[1]

    def forget(self, model: LatentDiffusion) -> None:
        """Free the memory of the words of a model that is used no more."""
        with self._lock:
            self._extended.pop(model.number, None)

    def _files(self) -> Files:
        try:
            with os.scandir(self._folder) as entries:
                stats = [(e.name, e.stat()) for e in entries if e.name.endswith(SUFFIX)]
        except OSError:  # absent, or a file has just been removed
            return ()
        return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))
