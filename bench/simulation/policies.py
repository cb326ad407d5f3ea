"""Three ways to serve a queue with one device. Each is asked, whenever the device is free, what to
do next; the step-level one is the worker's own scheduler."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from bench.simulation.devices import Device
from bench.simulation.requests import Kind, Request
from worker.engine.batcher import Batcher, free_slots
from worker.engine.step_profile import Group


@dataclass(eq=False)
class Slot:
    """A request in the device's hands; a `worker.engine.batcher.Candidate`."""

    request: Request
    admitted_at: float
    deadline_at: float | None = None
    steps_left: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps_left = self.kind.steps

    @property
    def kind(self) -> Kind:
        return self.request.kind

    @property
    def group(self) -> Group:
        return self.kind.group

    @property
    def rows(self) -> int:
        return self.kind.rows

    @property
    def priority(self) -> int:
        return self.request.priority


class Policy(Protocol):
    """What a worker does with the requests that wait."""

    def free_slots(self, waiting: int) -> int:
        """How many of them it takes now."""

    def take(self, request: Request, now: float) -> None: ...

    def step(self, now: float) -> list[Slot]:
        """The slots of the next step; empty if there is nothing to do yet."""

    def done(self, finished: list[Slot]) -> None:
        """These have made their last step."""

    def wakes_at(self) -> float:
        """When there will be something to do though nobody comes."""


class StepLevel:
    """Ours: whoever comes has the next step, if there is a slot; `worker.engine.batcher`
    chooses."""

    def __init__(self, device: Device) -> None:
        self._slots: list[Slot] = []
        self._most = device.slots
        self._batcher = Batcher(device.profile())

    def free_slots(self, waiting: int) -> int:
        return free_slots(self._slots, self._most)

    def take(self, request: Request, now: float) -> None:
        self._slots.append(Slot(request, now))

    def step(self, now: float) -> list[Slot]:
        return self._batcher.choose(self._slots, now)

    def done(self, finished: list[Slot]) -> None:
        self._slots = [slot for slot in self._slots if slot not in finished]

    def wakes_at(self) -> float:
        return inf


class RequestLevel:
    """MLPerf's rule: a batch begins when `size` requests of one picture size wait, or the first of
    them has waited for `patience_s`; nobody joins until all of it is done. A request that needs
    fewer steps than its neighbours is handed over early, which is more than such servers do."""

    def __init__(self, size: int, patience_s: float) -> None:
        self._size = size
        self._patience_s = patience_s
        self._waiting: dict[Group, deque[Slot]] = {}
        self._batch: list[Slot] = []

    def free_slots(self, waiting: int) -> int:
        return waiting  # it must see all that wait to find a batch among them

    def take(self, request: Request, now: float) -> None:
        slot = Slot(request, now)
        self._waiting.setdefault(slot.group, deque()).append(slot)

    def step(self, now: float) -> list[Slot]:
        if not self._batch:
            self._begin(now)
        return self._batch

    def done(self, finished: list[Slot]) -> None:
        self._batch = [slot for slot in self._batch if slot not in finished]

    def wakes_at(self) -> float:
        return min((self._due(queue) for queue in self._waiting.values() if queue), default=inf)

    def _due(self, queue: deque[Slot]) -> float:
        return queue[0].request.at + self._patience_s

    def _begin(self, now: float) -> None:
        ready = [
            queue
            for queue in self._waiting.values()
            if len(queue) >= self._size or (queue and self._due(queue) <= now)
        ]
        if ready:
            oldest = min(ready, key=lambda queue: queue[0].request.at)
            self._batch = [oldest.popleft() for _ in range(min(self._size, len(oldest)))]


def serial() -> RequestLevel:
    """One request after another."""
    return RequestLevel(size=1, patience_s=0.0)
