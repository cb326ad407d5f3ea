"""Deletes objects from the store that no client can request any more.

Results are deleted when their job's record has expired, inputs when no job can still need them.
Both must also be older than that takes, so that nothing new is deleted after Redis lost its data.
Uploaded files without a record cannot be asked for; most were deleted when they expired.
Ages are the store's times compared with Redis' clock, with a margin for the difference.
"""

import logging
from datetime import timedelta
from threading import Event

from protocol.errors import StoreUnavailable
from protocol.request.object_keys import file_of, job_of
from protocol.settings import Settings
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import MARGIN_S, Pins

logger = logging.getLogger(__name__)


class GarbageCollector:
    """Collects once in `every_s` seconds, in one of all the workers."""

    def __init__(self, store: ObjectStore, pins: Pins, settings: Settings, every_s: float) -> None:
        self._store = store
        self._pins = pins
        self._every_s = every_s
        self._results_age = timedelta(
            seconds=max(settings.result_ttl_s, settings.failure_ttl_s) + MARGIN_S
        )
        self._inputs_age = timedelta(seconds=settings.job_lifetime_s + MARGIN_S)
        self._closing = Event()

    def close(self) -> None:
        """Stop soon; may be called from any thread."""
        self._closing.set()

    def collect(self) -> None:
        """Delete what is due, if it is this worker's turn. Raises QueueUnavailable."""
        if not self._pins.claim_collection(self._every_s):
            return
        try:
            deleted = self._collect_results() + self._collect_inputs() + self._collect_uploads()
        except StoreUnavailable:
            logger.warning("the store does not answer, garbage is collected later")
        else:
            logger.info("garbage collected", extra={"objects": deleted})

    def _collect_results(self) -> int:
        deleted = 0
        for page in self._store.older_than("results", self._pins.now() - self._results_age):
            for key in page:
                # Checked just before each deletion: an earlier check may be out of date.
                if not self._closing.is_set() and not self._pins.has_record(job_of(key)):
                    self._store.delete(key)
                    deleted += 1
        return deleted

    def _collect_inputs(self) -> int:
        deleted = 0
        for page in self._store.older_than("inputs", self._pins.now() - self._inputs_age):
            if self._closing.is_set():
                break
            deleted += self._pins.delete_unpinned(page, self._store)
        return deleted

    def _collect_uploads(self) -> int:
        deleted = 0
        age = timedelta(seconds=MARGIN_S)
        for page in self._store.older_than("uploads", self._pins.now() - age):
            for key in page:
                if not self._closing.is_set() and not self._pins.has_file(file_of(key)):
                    self._store.delete(key)
                    deleted += 1
        return deleted
