"""Decoding of latents to images that does not hold up the images still being denoised."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from math import inf
from typing import Protocol

from torch import Tensor

from models.cuda.stream import StreamedDecoder
from worker.engine.slots import Slot, denoised
from worker.interfaces import Pixels

Decoded = tuple[Slot, Pixels, float]  # and the seconds it took


class Decoding(Protocol):
    """The images after their last step. The engine's thread makes every call."""

    def add(self, slots: Iterable[Slot]) -> None:
        """Take slots after their last step."""

    def drop(self, job_id: str) -> None:
        """Drop the images of a job."""

    def take(self, seconds: float) -> Iterator[Decoded]:
        """Yield the images that are ready, or become so within about `seconds`."""

    def __len__(self) -> int:
        """The images not taken yet."""


class InlineDecoding:
    """Decodes in the engine's thread: at least one image each time, more while there is time.

    One decode is short and finishes an image, so it goes first; but the other images must not wait
    longer than a step, however many have finished together.
    """

    def __init__(self) -> None:
        self._waiting: deque[Slot] = deque()

    def add(self, slots: Iterable[Slot]) -> None:
        self._waiting.extend(slots)

    def drop(self, job_id: str) -> None:
        self._waiting = deque(slot for slot in self._waiting if slot.job.id != job_id)

    def take(self, seconds: float) -> Iterator[Decoded]:
        first = time.monotonic()
        while self._waiting:
            slot, started = self._waiting.popleft(), time.monotonic()
            pixels: Pixels = slot.decode(denoised(slot).x[None])[0].numpy()
            yield slot, pixels, time.monotonic() - started
            if time.monotonic() - first >= seconds:
                return

    def __len__(self) -> int:
        return len(self._waiting)


class StreamedDecoding:
    """Decodes on a second stream of the GPU, while the batch goes on."""

    def __init__(self, decoder: StreamedDecoder) -> None:
        self._decoder = decoder
        self._running: deque[tuple[Slot, Future[Tensor], float]] = deque()

    def add(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            image = self._decoder.decode_async(denoised(slot).x, slot.decode)
            self._running.append((slot, image, time.monotonic()))

    def drop(self, job_id: str) -> None:
        self._running = deque(entry for entry in self._running if entry[0].job.id != job_id)

    def take(self, seconds: float) -> Iterator[Decoded]:
        """Yield what is ready; wait only if the engine has nothing else to do (`seconds` inf)."""
        while self._running and (self._running[0][1].done() or seconds == inf):
            slot, image, started = self._running.popleft()
            pixels: Pixels = image.result().numpy()
            yield slot, pixels, time.monotonic() - started

    def __len__(self) -> int:
        return len(self._running)
