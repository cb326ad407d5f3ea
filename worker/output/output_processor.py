"""Reads inputs, encodes images and writes them to the store, in threads of its own.

Tasks begin in the order in which they were submitted, so one may wait for the results of those
before it.
"""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import ParamSpec, TypeVar

import numpy as np

from protocol.errors import StoreUnavailable
from protocol.queue.job import ExtraFile, ImageResult
from protocol.request.object_keys import extra_key, result_key
from protocol.request.request import GenerationRequest
from protocol.storage.object_store import ObjectStore
from worker.interfaces import RGB, Pixels
from worker.output.extras import File, extras
from worker.output.image_files import encode
from worker.output.paste import Pasted

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Sign = Callable[[bytes, GenerationRequest], bytes]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


class OutputProcessor:
    """A pool of threads between the engine and the store."""

    def __init__(
        self, store: ObjectStore, threads: int, patience_s: float, sign: Sign | None = None
    ) -> None:
        """`patience_s`: for how long calls are repeated while the store does not answer.

        `sign` signs each file of an image, after all else is written into it.
        """
        self.store = store
        self._sign = sign
        self._patience_s = patience_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="output")
        # For tasks without the store, so that they do not queue behind those that wait for it.
        self._endings = ThreadPoolExecutor(1, thread_name_prefix="ending")
        self._closing = Event()

    def submit(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a task that reads or writes the store, or waits for one that does."""
        return self._pool.submit(task, *args, **kwargs)

    def submit_ending(
        self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run a task that only writes to Redis how a job without images ended."""
        return self._endings.submit(task, *args, **kwargs)

    def read_inputs(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read input images, PNGs, by their keys; for use in a task.

        Raises UnknownImage, and StoreUnavailable if the store stays away.
        """
        return {key: self._retry(partial(self.store.get, key)) for key in keys}

    def write_image(
        self, job_id: str, index: int, image: Pasted, request: GenerationRequest, seed: int
    ) -> ImageResult:
        """Encode one image and its extra files, and write them to the store; for use in a task.

        Raises StoreUnavailable if the store stays away.
        """
        pixels = image.pixels
        content = encode(_with_alpha(image), request, seed)
        if self._sign is not None:
            content = self._sign(content, request)
        key = result_key(job_id, index, request.output_format)
        height, width, _ = pixels.shape
        self._put(key, content, request.output_format.content_type)
        return ImageResult(
            key=key,
            seed=seed,
            width=width,
            height=height,
            format=request.output_format,
            bytes=len(content),
            extras=tuple(
                self._write_extra(job_id, index, extra) for extra in extras(pixels, request, seed)
            ),
        )

    def _write_extra(self, job_id: str, index: int, extra: File) -> ExtraFile:
        key = extra_key(job_id, index, extra.kind, extra.format)
        self._put(key, extra.content, extra.format.content_type)
        return ExtraFile(kind=extra.kind, key=key, format=extra.format, bytes=len(extra.content))

    def _put(self, key: str, content: bytes, content_type: str) -> None:
        self._retry(lambda: self.store.put(key, content, content_type))

    def close(self) -> None:
        """Stop repeating failed calls, and wait for the threads to end."""
        self._closing.set()
        self._pool.shutdown(cancel_futures=True)
        self._endings.shutdown(cancel_futures=True)

    def pause(self, seconds: float) -> bool:
        """Wait, in a task, before a call is repeated; return False if it should not be."""
        return not self._closing.wait(seconds)

    def _retry(self, attempt: Callable[[], T]) -> T:
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


def _with_alpha(image: Pasted) -> Pixels:
    """Return the colours (H, W, 3), or (H, W, 4) with the alpha."""
    colours = image.pixels[..., :RGB]
    return colours if image.alpha is None else np.dstack([colours, image.alpha])
