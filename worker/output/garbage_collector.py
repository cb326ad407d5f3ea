"""Deletes from the store what nobody can ask for any more.

Results go when their job's record has expired, inputs when no job can still need them; either only
when it is older than that takes anyway, so that Redis losing its memory deletes nothing young.
"""

import logging
from datetime import UTC, datetime, timedelta
from threading import Event

from protocol.errors import StoreUnavailable
from protocol.request.object_keys import job_of
from protocol.settings import Settings
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import MARGIN_S, Pins

logger = logging.getLogger(__name__)


class GarbageCollector:
    """One of all the workers' sweepers sweeps, once in `every_s` seconds."""

    def __init__(
        self, store: ObjectStore, holdings: Pins, settings: Settings, every_s: float
    ) -> None:
        self._store = store
        self._holdings = holdings
        self._every_s = every_s
        self._results_age = timedelta(
            seconds=max(settings.result_ttl_s, settings.failure_ttl_s) + MARGIN_S
        )
        self._inputs_age = timedelta(seconds=settings.job_lifetime_s + MARGIN_S)
        self._ending = Event()

    def close(self) -> None:
        """Stop soon, from any thread."""
        self._ending.set()

    def sweep(self) -> None:
        """Delete what is due, if it is our turn. Raises QueueUnavailable."""
        if not self._holdings.claim_collection(self._every_s):
            return
        try:
            swept = self._results() + self._inputs()
        except StoreUnavailable:
            logger.warning("the store does not answer, sweeping is put off")
        else:
            logger.info("swept the store", extra={"objects": swept})

    def _results(self) -> int:
        swept = 0
        for page in self._store.older_than("results", datetime.now(UTC) - self._results_age):
            for key in page:
                # Asked for each, just before: what is asked early may not be true any more.
                if not self._ending.is_set() and not self._holdings.has_record(job_of(key)):
                    self._store.delete(key)
                    swept += 1
        return swept

    def _inputs(self) -> int:
        swept = 0
        for page in self._store.older_than("inputs", datetime.now(UTC) - self._inputs_age):
            if self._ending.is_set():
                break
            free = self._holdings.mark_for_deletion(page)
            for key in free:
                self._store.delete(key)
            self._holdings.unmark(free)
            swept += len(free)
        return swept
