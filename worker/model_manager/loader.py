"""Loads one model at a time in a thread of its own, while others are being drawn with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from worker.engine.loaded_model import LoadedModel

Report = Callable[[float, str], None]
Load = Callable[[str, Report], LoadedModel]

ENDING_S = 5.0  # that a load which is not wanted any more may take to notice


class _NotWanted(Exception):
    """The worker stops."""


@dataclass(frozen=True)
class Loaded:
    """What came of a load: a model, or why there is none."""

    name: str
    outcome: LoadedModel | Exception


class Loader:
    """`begin` and `take` are called from one thread; `progress` may be read from any."""

    def __init__(self, load: Load) -> None:
        """`load` is called with a model's name, and tells how far it is and what comes next."""
        self._load = load
        self._thread: threading.Thread | None = None
        self._loaded: Loaded | None = None
        self._closing = False
        self.progress = 0.0
        self.detail = ""

    def begin(self, name: str) -> None:
        """Start to load a model; there must be no other on its way."""
        assert self._thread is None
        self.progress, self.detail = 0.0, ""
        # A daemon: to end the process, nobody waits for gigabytes to be read.
        self._thread = threading.Thread(target=self._run, args=(name,), name="loader", daemon=True)
        self._thread.start()

    def take(self) -> Loaded | None:
        """What was being loaded, once that has ended."""
        if self._thread is None or self._loaded is None:
            return None
        self._thread.join()
        loaded, self._loaded, self._thread = self._loaded, None, None
        return loaded

    def here(self, name: str, report: Report) -> Loaded:
        """Load a model in the calling thread."""
        return self._outcome(name, report)

    def close(self) -> None:
        """Want no more."""
        self._closing = True
        if self._thread is not None:
            self._thread.join(ENDING_S)

    def _run(self, name: str) -> None:
        self._loaded = self._outcome(name, self._report)

    def _outcome(self, name: str, report: Report) -> Loaded:
        try:
            return Loaded(name, self._load(name, report))
        except Exception as error:  # whatever it is, it is this model's trouble, not the others'
            return Loaded(name, error)

    def _report(self, share: float, what: str) -> None:
        if self._closing:
            raise _NotWanted
        self.progress, self.detail = share, what
