"""The models of a worker: which are there, which are on their way, and whose turn it is.

A `worker.interfaces.Models`. Everything here happens in the engine's thread, between two steps,
so a
model cannot go while a job of its is being taken; only the loading itself has a thread. What is
decided is `worker.model_manager.eviction_policy`'s, who waits is
`worker.model_manager.load_requests`'s.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol

from protocol.registry.presence import ModelReport, ModelState
from worker.engine.loaded_model import LoadedModel
from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry, Move
from worker.model_manager.loader import Loaded, Loader
from worker.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

TRIES = 3  # to load a model, before its jobs fail
PAUSE_S = 1.0  # before the second, and twice as long before the third
BROKEN_S = 60.0  # for which a model that cannot be loaded is not tried again


class Holder(Protocol):
    """What draws with the models: the engine."""

    def put(self, name: str, resident: LoadedModel) -> None: ...
    def remove(self, name: str) -> None: ...


@dataclass
class _Trouble:
    """Why a model could not be loaded, how often that was tried, and when it is tried again."""

    reason: str
    tries: int
    again_at: float


class ModelManager:
    """`broken`: the models that cannot be offered at all, and why. `free`: bytes for more weights,
    besides the budget of `books`."""

    def __init__(
        self,
        engine: Holder,
        loader: Loader,
        books: EvictionPolicy,
        broken: Mapping[str, str],
        metrics: Metrics,
        free: Callable[[], float] = lambda: inf,
    ) -> None:
        self._engine = engine
        self._loader = loader
        self._books = books
        self._metrics = metrics
        self._free = free
        self._names = (*books.lodgers, *broken)
        self._trouble = {name: _Trouble(reason, TRIES, inf) for name, reason in broken.items()}
        for name in books.lodgers:
            if books.too_large(name):
                self._trouble[name] = _Trouble(self._in_vain(name), TRIES, inf)
        self._order = list(books.lodgers)  # the one whose turn is longest ago first
        self.waiting: Mapping[str, float] = {}  # seconds that jobs wait; written by another thread
        metrics.models.set_function(lambda: len(books.there))
        metrics.model_bytes.set_function(lambda: books.taken)

    # -- for the loop ---------------------------------------------------------------------------

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def turn(self, in_use: Collection[str]) -> None:
        if (loaded := self._loader.take()) is not None:
            self._arrived(loaded)
        wanted = self._wanted()
        free = self._free() if wanted else inf
        move = self._books.turn(time.monotonic(), wanted, in_use, free)
        self._let_go(move)
        if move.load is not None:
            logger.info("loading a model", extra={"model": move.load})
            self._loader.begin(move.load)

    def takes(self) -> Sequence[str]:
        takes = self._books.takes
        return [name for name in self._order if name in takes]

    def taken(self, model: str) -> None:
        self._order.remove(model)
        self._order.append(model)

    def has(self, model: str) -> bool:
        return model in self._books.lodgers and self._books.complete(model)

    # -- at the start ---------------------------------------------------------------------------

    def load_first(self, report: Callable[[str, float, str], None]) -> None:
        """Load the first of the models that are to stay, with what it needs, in this thread.

        `report` hears which model it is, how far it is, and what comes next. Raises what went wrong
        with the last of them if none can be loaded, and nothing else can be asked for either.
        """
        error: Exception | None = None
        while not self._one_stays and (wanted := self._without_trouble(self._to_stay(), -inf)):
            move = self._books.turn(time.monotonic(), wanted, (), self._free())
            if move.load is None:
                break
            loaded = self._loader.here(move.load, partial(report, move.load))
            self._arrived(loaded)
            if isinstance(loaded.outcome, Exception):
                error = loaded.outcome
        usable = self._without_trouble(dict.fromkeys(self._books.lodgers, 0.0), -inf)
        if not usable and not self._books.takes:
            raise error or RuntimeError(self._all_troubles())

    @property
    def _one_stays(self) -> bool:
        lodgers = self._books.lodgers.items()
        return any(lodger.stays and self._books.complete(name) for name, lodger in lodgers)

    # -- for those who watch --------------------------------------------------------------------

    @property
    def absent(self) -> dict[str, float | None]:
        """The models that are not there, and how far those are that are being loaded."""
        books, share = self._books, self._loader.progress
        absent = [name for name in self._names if name in self.broken or not books.complete(name)]
        return {name: share if self._is_loading(name) else None for name in absent}

    @property
    def broken(self) -> dict[str, str]:
        """The models that cannot be loaded, and why."""
        now = time.monotonic()
        return {
            name: trouble.reason
            for name, trouble in list(self._trouble.items())
            if trouble.tries >= TRIES and now < trouble.again_at
        }

    def reports(self) -> tuple[ModelReport, ...]:
        """What is to be told of each model."""
        return tuple(map(self._report, self._names))

    def close(self) -> None:
        """Load no more."""
        self._loader.close()

    # -- inside ---------------------------------------------------------------------------------

    def _wanted(self) -> dict[str, float]:
        """Models that are to be loaded, and for how many seconds they are waited for."""
        wanted = {**self._to_stay(), **self.waiting}
        return self._without_trouble(wanted, time.monotonic()) if self._trouble else wanted

    def _without_trouble(self, wanted: Mapping[str, float], now: float) -> dict[str, float]:
        """Those of them that may be loaded by `now`, with what they need."""
        later = {name for name, trouble in self._trouble.items() if now < trouble.again_at}
        return {name: s for name, s in wanted.items() if later.isdisjoint(self._party(name))}

    def _to_stay(self) -> dict[str, float]:
        books = self._books
        return {
            name: 0.0
            for name, lodger in books.lodgers.items()
            if lodger.stays and not books.complete(name)
        }

    def _arrived(self, loaded: Loaded) -> None:
        name, outcome = loaded.name, loaded.outcome
        if isinstance(outcome, LoadedModel):
            self._trouble.pop(name, None)
            self._engine.put(name, outcome)
            self._books.loaded(time.monotonic())
            self._metrics.model_loads.labels("loaded").inc()
            logger.info("model loaded", extra={"model": name})
            return
        self._books.failed()
        self._metrics.model_loads.labels("failed").inc()
        before = self._trouble.get(name)
        tries = min(TRIES, 1 + (before.tries if before else 0))
        pause_s = BROKEN_S if tries == TRIES else PAUSE_S * tries
        reason = str(outcome) or type(outcome).__name__
        self._trouble[name] = _Trouble(reason, tries, time.monotonic() + pause_s)
        told = {"model": name, "tries": tries}
        logger.error("a model cannot be loaded", extra=told, exc_info=outcome)

    def _let_go(self, move: Move) -> None:
        for name in move.evicted:
            self._engine.remove(name)
            self._metrics.model_evictions.inc()
            logger.info("model let go of", extra={"model": name})

    def _is_loading(self, name: str) -> bool:
        return self._books.loading is not None and self._books.loading in self._party(name)

    def _party(self, name: str) -> tuple[str, ...]:
        lodger = self._books.lodgers.get(name, ModelEntry(0))
        return (*lodger.needs, name)

    def _report(self, name: str) -> ModelReport:
        if reason := self.broken.get(name):
            return ModelReport(name=name, state=ModelState.FAILED, detail=reason)
        if self.has(name):
            return ModelReport(name=name, state=ModelState.READY)
        if self._is_loading(name):
            share, what = self._loader.progress, self._loader.detail
            return ModelReport(name=name, state=ModelState.LOADING, detail=what, progress=share)
        return ModelReport(name=name, state=ModelState.ON_DEMAND)

    def _in_vain(self, name: str) -> str:
        parts = " + ".join(f"{self._books.lodgers[n].size:,.0f}" for n in self._party(name))
        return (
            f"its weights take {parts} bytes, which do not fit into the memory_budget of "
            f"{self._books.budget:,.0f} beside the models that stay"
        )

    def _all_troubles(self) -> str:
        return "; ".join(f"{name}: {trouble.reason}" for name, trouble in self._trouble.items())
