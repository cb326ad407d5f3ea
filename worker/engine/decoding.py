"""From latents to pictures, without holding up those that are still being denoised."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from math import inf
from typing import Protocol

from torch import Tensor

from models.cuda.stream import StreamedDecoder
from worker.engine.slots import Slot
from worker.interfaces import Pixels

Decoded = tuple[Slot, Pixels, float]  # and the seconds it took


class Decoding(Protocol):
    """The pictures that have gone all their steps. Called by the engine's thread only."""

    def add(self, slots: Iterable[Slot]) -> None:
        """These have finished."""

    def drop(self, job_id: str) -> None:
        """Nobody wants this job's pictures any more."""

    def take(self, seconds: float) -> Iterator[Decoded]:
        """Pictures that are ready, or become so within about `seconds`."""

    def __len__(self) -> int:
        """Pictures still to be taken."""


class BetweenSteps:
    """Decodes in place: one picture at least each time, more while there is time.

    A picture takes little and is then done, so it goes first; but the others must not wait for
    longer than a step, however many have finished together.
    """

    def __init__(self) -> None:
        self._waiting: deque[Slot] = deque()

    def add(self, slots: Iterable[Slot]) -> None:
        self._waiting.extend(slots)

    def drop(self, job_id: str) -> None:
        self._waiting = deque(slot for slot in self._waiting if slot.running.job.id != job_id)

    def take(self, seconds: float) -> Iterator[Decoded]:
        first = time.monotonic()
        while self._waiting:
            slot, started = self._waiting.popleft(), time.monotonic()
            pixels: Pixels = slot.decode(slot.trajectory.x[None])[0].numpy()
            yield slot, pixels, time.monotonic() - started
            if time.monotonic() - first >= seconds:
                return

    def __len__(self) -> int:
        return len(self._waiting)


class BesideSteps:
    """Decodes on a GPU's second stream, while the batch goes on."""

    def __init__(self, decoder: StreamedDecoder) -> None:
        self._decoder = decoder
        self._running: deque[tuple[Slot, Future[Tensor], float]] = deque()

    def add(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            picture = self._decoder.decode_async(slot.trajectory.x, slot.decode)
            self._running.append((slot, picture, time.monotonic()))

    def drop(self, job_id: str) -> None:
        self._running = deque(r for r in self._running if r[0].running.job.id != job_id)

    def take(self, seconds: float) -> Iterator[Decoded]:
        """What is ready; waits only where the engine has nothing else to do (`seconds` inf)."""
        while self._running and (self._running[0][1].done() or seconds == inf):
            slot, picture, started = self._running.popleft()
            pixels: Pixels = picture.result().numpy()
            yield slot, pixels, time.monotonic() - started

    def __len__(self) -> int:
        return len(self._running)
