"""Loads and evicts the models of a worker.

A `worker.interfaces.Models`. `worker.model_manager.eviction_policy` decides which models change,
and `worker.model_manager.load_requests` finds the models with waiting jobs. Only the loading has a
thread of its own; all else runs in the engine's thread, between two steps, so a model cannot be
evicted while one of its jobs is being claimed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from queue import SimpleQueue
from typing import Protocol

from protocol.registry.model_commands import Action
from protocol.registry.presence import ModelReport, ModelState
from worker.engine.loaded_model import LoadedModel
from worker.model_manager.eviction_policy import EvictionPolicy, ModelEntry
from worker.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3  # to load a model, before its jobs fail
RETRY_S = 1.0  # before the second attempt, and twice as long before the third
BROKEN_S = 60.0  # before a model that cannot be loaded is tried again
CLOSE_S = 5.0  # for which `close` waits for a load to stop

ProgressCallback = Callable[[float, str], None]


class ModelHolder(Protocol):
    """The part of the engine that holds the loaded models."""

    def put(self, name: str, resident: LoadedModel) -> None: ...
    def remove(self, name: str) -> None: ...


class _Closing(Exception):
    """Stops a load because the worker stops."""


@dataclass
class _Failure:
    """The last error of a model, the attempts so far, and the time of the next."""

    reason: str
    attempts: int
    retry_at: float


class ModelManager:
    """All models of a worker, loaded or not.

    `waiting` holds the models that this worker should load and the seconds for which jobs have
    waited for each; another thread replaces it.
    """

    def __init__(
        self,
        engine: ModelHolder,
        load: Callable[[str, ProgressCallback], LoadedModel],
        policy: EvictionPolicy,
        broken: Mapping[str, str],
        metrics: Metrics,
        free_bytes: Callable[[], float] = lambda: inf,
    ) -> None:
        """`load` takes a model's name and a function to call with the loaded share and the next
        part. `broken`: the models that cannot be loaded at all, and why. `free_bytes`: the memory
        for further weights, which bounds the loading in addition to the budget of `policy`.
        """
        self._engine = engine
        self._load = load
        self._policy = policy
        self._metrics = metrics
        self._free_bytes = free_bytes
        self._failures: dict[str, _Failure] = {}
        self._mark_broken({**broken, **policy.too_large()})
        self.names: Sequence[str] = tuple(dict.fromkeys((*policy.entries, *broken)))
        self._least_recently_served = list(policy.entries)
        self._added = SimpleQueue[tuple[str, ModelEntry | str]]()
        self.waiting: Mapping[str, float] = {}
        self._commands = SimpleQueue[tuple[str, Action]]()
        self._asked: set[str] = set()  # models to load, by an operator's command
        self._unwanted: set[str] = set()  # models to unload, or unloaded, by a command
        self._thread: threading.Thread | None = None
        self._outcome: LoadedModel | Exception | None = None
        self._progress, self._detail = 0.0, ""
        self._closing = False
        metrics.models.set_function(lambda: len(policy.loaded))
        metrics.model_bytes.set_function(lambda: policy.used_bytes)

    # -- serving --------------------------------------------------------------------------------

    def update(self, in_use: Collection[str]) -> None:
        if self._thread is not None and self._outcome is not None:
            self._thread.join()
            outcome, self._outcome, self._thread = self._outcome, None, None
            self._finish_load(outcome)
        self._take_added()
        self._obey_commands()
        missing = {**self._missing_residents(), **dict.fromkeys(self._asked, 0.0), **self.waiting}
        wanted = self._may_load(missing, time.monotonic())
        if (name := self._apply_plan(wanted, in_use)) is not None:
            logger.info("loading a model", extra={"model": name})
            self._progress, self._detail = 0.0, ""
            # A daemon: the process must not wait for gigabytes to be read before it ends.
            self._thread = threading.Thread(
                target=self._load_in_thread, args=(name,), name="loader", daemon=True
            )
            self._thread.start()

    def add(self, name: str, entry: ModelEntry | str) -> None:
        """Take a further model soon, which is loaded on demand; text is why it cannot be loaded.

        May be called from any thread.
        """
        self._added.put((name, entry))

    def _take_added(self) -> None:
        while not self._added.empty():
            name, entry = self._added.get()
            if isinstance(entry, str):
                self._mark_broken({name: entry})
            else:
                self._policy.add(name, entry)
                self._mark_broken(self._policy.too_large())
                self._least_recently_served.append(name)
            self.names = (*self.names, name)

    def _mark_broken(self, reasons: Mapping[str, str]) -> None:
        self._failures |= {n: _Failure(why, MAX_ATTEMPTS, inf) for n, why in reasons.items()}

    def command(self, name: str, action: Action) -> None:
        """Load or unload a model soon. May be called from any thread."""
        self._commands.put((name, action))

    def _obey_commands(self) -> None:
        while not self._commands.empty():
            name, action = self._commands.get()
            self._asked.discard(name)
            self._unwanted.discard(name)
            if action is Action.UNLOAD:
                self._unwanted.add(name)
            elif not self._policy.is_ready(name):
                self._asked.add(name)

    def claimable(self) -> Sequence[str]:
        accepting = self._policy.accepting
        return [name for name in self._least_recently_served if name in accepting]

    def mark_claimed(self, model: str) -> None:
        self._least_recently_served.remove(model)
        self._least_recently_served.append(model)

    def is_ready(self, model: str) -> bool:
        return self._policy.is_ready(model)

    # -- startup --------------------------------------------------------------------------------

    def load_first(self, report: Callable[[str, float, str], None]) -> None:
        """Load the first resident model, and what it needs, in the calling thread.

        `report` is called with the model's name, the loaded share and the next part. Raises the
        error of the last load if none succeeds and no other model can be loaded on demand.
        """
        policy, error = self._policy, None
        while not any(map(policy.is_ready, policy.residents)):
            wanted = self._may_load(self._missing_residents())
            name = self._apply_plan(wanted, ()) if wanted else None
            if name is None:
                break
            error = self._finish_load(self._try_to_load(name, partial(report, name)))
        if not self._may_load(dict.fromkeys(policy.entries, 0.0)) and not policy.accepting:
            reasons = (f"{name}: {failure.reason}" for name, failure in self._failures.items())
            raise error or RuntimeError("; ".join(reasons))

    # -- state, read by other threads -----------------------------------------------------------

    @property
    def absent(self) -> dict[str, float | None]:
        """The models that are not loaded, and the loaded share of those being loaded."""
        absent = [name for name in self.names if not self._policy.is_ready(name)]
        return {name: self._progress if self._is_loading(name) else None for name in absent}

    @property
    def broken(self) -> dict[str, str]:
        """The models that cannot be loaded, and why."""
        now = time.monotonic()
        return {
            name: failure.reason
            for name, failure in list(self._failures.items())
            if failure.attempts >= MAX_ATTEMPTS and now < failure.retry_at
        }

    def reports(self) -> tuple[ModelReport, ...]:
        """Return the state of each model."""
        return tuple(map(self._report, self.names))

    def _report(self, name: str) -> ModelReport:
        if reason := self.broken.get(name):
            return ModelReport(name=name, state=ModelState.FAILED, detail=reason)
        if self.is_ready(name):
            return ModelReport(name=name, state=ModelState.READY)
        if self._is_loading(name):
            detail, progress = self._detail, self._progress
            return ModelReport(
                name=name, state=ModelState.LOADING, detail=detail, progress=progress
            )
        return ModelReport(name=name, state=ModelState.ON_DEMAND)

    def _is_loading(self, name: str) -> bool:
        return self._policy.loading in self._policy.required(name)

    # -- loading --------------------------------------------------------------------------------

    def close(self) -> None:
        """Load no more, and wait at most `CLOSE_S` for a load to stop."""
        self._closing = True
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _apply_plan(self, wanted: Mapping[str, float], in_use: Collection[str]) -> str | None:
        """Evict the models that the policy names, and return the model to load now, if any."""
        free_bytes = self._free_bytes() if wanted else inf
        plan = self._policy.plan(time.monotonic(), wanted, in_use, free_bytes, self._unwanted)
        for name in plan.evict:
            self._engine.remove(name)
            self._metrics.model_evictions.inc()
            logger.info("model evicted", extra={"model": name})
        return plan.load

    def _load_in_thread(self, name: str) -> None:
        try:
            self._outcome = self._try_to_load(name, self._keep_progress)
        except BaseException as error:  # a panic of native code: without an outcome nothing loads
            self._outcome = RuntimeError(f"{type(error).__name__}: {error}")

    def _keep_progress(self, share: float, part: str) -> None:
        if self._closing:
            raise _Closing
        self._progress, self._detail = share, part

    def _try_to_load(self, name: str, report: ProgressCallback) -> LoadedModel | Exception:
        try:
            return self._load(name, report)
        except Exception as error:  # of any kind: the other models can still be served
            return error

    def _finish_load(self, outcome: LoadedModel | Exception) -> Exception | None:
        """Hand a loaded model to the engine, or record and return why it could not be loaded."""
        name = self._policy.loading
        assert name is not None
        self._asked.discard(name)
        self._unwanted.discard(name)  # its jobs have asked for it again
        if isinstance(outcome, Exception):
            self._policy.load_failed()
            self._record_failure(name, outcome)
            return outcome
        self._failures.pop(name, None)
        self._engine.put(name, outcome)
        self._policy.load_finished(time.monotonic())
        self._metrics.model_loads.labels("loaded").inc()
        logger.info("model loaded", extra={"model": name})
        return None

    def _record_failure(self, name: str, error: Exception) -> None:
        self._metrics.model_loads.labels("failed").inc()
        before = self._failures.get(name)
        attempts = min(MAX_ATTEMPTS, 1 + (before.attempts if before else 0))
        pause_s = BROKEN_S if attempts == MAX_ATTEMPTS else RETRY_S * attempts
        reason = str(error) or type(error).__name__
        self._failures[name] = _Failure(reason, attempts, time.monotonic() + pause_s)
        fields = {"model": name, "attempts": attempts}
        logger.error("a model cannot be loaded", extra=fields, exc_info=error)

    def _missing_residents(self) -> dict[str, float]:
        missing = {n: 0.0 for n in self._policy.residents if not self._policy.is_ready(n)}
        return {name: waited for name, waited in missing.items() if name not in self._unwanted}

    def _may_load(self, wanted: Mapping[str, float], now: float = -inf) -> dict[str, float]:
        """Return those of `wanted` that have not failed, nor what they need, or are due again."""
        failed = {name for name, failure in self._failures.items() if now < failure.retry_at}
        return {n: s for n, s in wanted.items() if failed.isdisjoint(self._policy.required(n))}
