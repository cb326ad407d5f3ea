"""Everything slow that is not drawing: reading inputs, encoding, and writing to the store.

Done by a few threads beside the engine's. Tasks begin in the order they were submitted, so one may
wait for the results of those before it.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import ParamSpec, TypeVar

from protocol.errors import StoreUnavailable
from protocol.queue.job import ExtraFile, ImageResult
from protocol.request.object_keys import extra_key, result_key
from protocol.request.request import GenerationRequest
from protocol.storage.object_store import ObjectStore
from worker.interfaces import RGB, Inputs, Pixels
from worker.output.extras import File, extras
from worker.output.image_files import encode

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class OutputProcessor:
    """A pool of threads between the engine and the store."""

    def __init__(self, store: ObjectStore, threads: int, patience_s: float) -> None:
        """`patience_s`: for how long a store that does not answer is tried again."""
        self._store = store
        self._patience_s = patience_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="delivery")
        # Tasks that need no store, and so do not wait behind those that wait for it.
        self._endings = ThreadPoolExecutor(1, thread_name_prefix="ending")
        self._giving_up = Event()

    def submit(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do a task that reads or writes the store, or waits for one that does."""
        return self._pool.submit(task, *args, **kwargs)

    def submit_ending(
        self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Do a task that only tells Redis how a job ended: one without pictures."""
        return self._endings.submit(task, *args, **kwargs)

    def inputs(self, request: GenerationRequest) -> Inputs:
        """The PNGs that a request's keys name. For use in a task.

        Raises UnknownImage, and StoreUnavailable once patience is at its end.
        """
        found = {key: self._input(key) for key in request.input_keys}
        return Inputs(
            image=found[request.image_key] if request.image_key else None,
            mask=found[request.mask_key] if request.mask_key else None,
            controls=tuple(found[control.image_key] for control in request.controls),
        )

    def image(
        self, job_id: str, index: int, pixels: Pixels, request: GenerationRequest, seed: int
    ) -> ImageResult:
        """Encode one picture, and what comes with it, and write them to the store. For use in a
        task.

        Raises StoreUnavailable once patience is at its end.
        """
        picture = encode(pixels[..., :RGB], request, seed)
        key = result_key(job_id, index, request.output_format)
        height, width, _ = pixels.shape
        self._put(key, picture, request.output_format.content_type)
        return ImageResult(
            key=key,
            seed=seed,
            width=width,
            height=height,
            format=request.output_format,
            bytes=len(picture),
            extras=tuple(
                self._extra(job_id, index, extra) for extra in extras(pixels, request, seed)
            ),
        )

    def _extra(self, job_id: str, index: int, extra: File) -> ExtraFile:
        key = extra_key(job_id, index, extra.kind, extra.format)
        self._put(key, extra.content, extra.format.content_type)
        return ExtraFile(kind=extra.kind, key=key, format=extra.format, bytes=len(extra.content))

    def _put(self, key: str, content: bytes, content_type: str) -> None:
        self._patiently(lambda: self._store.put(key, content, content_type))

    def close(self) -> None:
        """Stop being patient, and wait for the threads to end."""
        self._giving_up.set()
        self._pool.shutdown(cancel_futures=True)
        self._endings.shutdown(cancel_futures=True)

    def pause(self, seconds: float) -> bool:
        """Wait, in a task, before trying something again; whether it is worth trying."""
        return not self._giving_up.wait(seconds)

    def _input(self, key: str) -> bytes:
        return self._patiently(lambda: self._store.get(key))

    def _patiently(self, attempt: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._patience_s
        pause = FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except StoreUnavailable:
                if time.monotonic() + pause > deadline or not self.pause(pause):
                    raise
                logger.warning("the store does not answer, trying again")
                pause = min(2 * pause, LONGEST_PAUSE_S)
