"""Says how this worker is, again and again, so that its silence means something."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from protocol.errors import QueueUnavailable
from protocol.registry.presence import TTL_S, ModelReport, Presence, WorkerReport, WorkerState

REPEAT_S = TTL_S / 3


class Heartbeat:
    """Holds the worker's latest report. `say` may be called from any thread."""

    def __init__(self, presence: Presence, name: str) -> None:
        self._presence = presence
        self._report = WorkerReport(name=name, state=WorkerState.STARTING)
        self._busy: Callable[[], bool] = lambda: False
        self._lock = threading.Lock()
        # Held while telling, so that a new report is not overtaken by an earlier one.
        self._telling = threading.Lock()

    def say(self, **changes: Any) -> None:
        """Change the report and tell it at once; if Redis is away, the next repetition tells it."""
        with self._lock:
            self._report = self._report.model_copy(update=changes)
        with suppress(QueueUnavailable):
            self.repeat()

    def serve(self, busy: Callable[[], bool]) -> None:
        """From now on this worker is ready, or busy whenever `busy()` says so."""
        self._busy = busy
        self.say(state=WorkerState.READY, detail="", progress=None)

    def tell_models(self, models: tuple[ModelReport, ...]) -> None:
        """Tell how the models are, if that is news."""
        if models != self._report.models:
            self.say(models=models)

    def repeat(self) -> None:
        """Tell the latest report again. Raises QueueUnavailable."""
        with self._telling:
            with self._lock:
                report = self._report
            if report.state is WorkerState.READY and self._busy():
                report = report.model_copy(update={"state": WorkerState.BUSY})
            self._presence.report(report)

    def leave(self) -> None:
        """Say goodbye; nothing may be said after it."""
        with suppress(QueueUnavailable):
            self._presence.leave(self._report.name)
