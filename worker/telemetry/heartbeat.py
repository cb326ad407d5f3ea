"""Publishes the worker's state at regular intervals, so that its absence shows a dead worker."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from protocol.errors import QueueUnavailable
from protocol.registry.presence import TTL_S, ModelReport, Presence, WorkerReport, WorkerState

INTERVAL_S = TTL_S / 3


class Heartbeat:
    """The latest report of the worker named `worker`. All methods may be called from any thread."""

    def __init__(self, presence: Presence, worker: str) -> None:
        self.worker = worker
        self._presence = presence
        self._report = WorkerReport(name=worker, state=WorkerState.STARTING)
        self._busy: Callable[[], bool] = lambda: False
        self._lock = threading.Lock()
        # Held while sending, so that an earlier report does not overwrite a new one.
        self._sending = threading.Lock()

    def update(self, **changes: Any) -> None:
        """Change the report and send it at once; without Redis, the next `send` includes it."""
        with self._lock:
            self._report = self._report.model_copy(update=changes)
        with suppress(QueueUnavailable):
            self.send()

    def mark_ready(self, busy: Callable[[], bool]) -> None:
        """Report READY from now on, or BUSY while `busy()` is true."""
        self._busy = busy
        self.update(state=WorkerState.READY, detail="", progress=None)

    def update_models(self, models: tuple[ModelReport, ...]) -> None:
        """Report the models' states if they have changed."""
        if models != self._report.models:
            self.update(models=models)

    def send(self) -> None:
        """Send the latest report. Raises QueueUnavailable."""
        with self._sending:
            with self._lock:
                report = self._report
            if report.state is WorkerState.READY and self._busy():
                report = report.model_copy(update={"state": WorkerState.BUSY})
            self._presence.report(report)

    def other_workers(self) -> list[WorkerReport]:
        """Return the reports of the other workers. Raises QueueUnavailable."""
        return [report for report in self._presence.workers() if report.name != self.worker]

    def leave(self) -> None:
        """Withdraw the report; nothing may be sent after it."""
        with suppress(QueueUnavailable):
            self._presence.leave(self.worker)
