"""Three policies that serve a queue with one device.

Each is called whenever the device is free; step-level is the worker's own scheduler.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from bench.simulation.devices import Device
from bench.simulation.requests import Request, RequestKind
from worker.engine.batcher import Batcher, free_slots
from worker.engine.step_profile import Group


@dataclass(eq=False)
class Slot:
    """An admitted request; a `worker.engine.batcher.Candidate`."""

    request: Request
    admitted_at: float
    deadline_at: float | None = None
    steps_left: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps_left = self.kind.steps

    @property
    def kind(self) -> RequestKind:
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
    """Scheduling policy of a worker."""

    def free_slots(self, waiting: int) -> int:
        """Return the number of waiting requests that the policy admits now."""

    def admit(self, request: Request, now: float) -> None:
        """Admit a request."""

    def step(self, now: float) -> list[Slot]:
        """Return the slots of the next step; empty if there is nothing to do yet."""

    def done(self, finished: list[Slot]) -> None:
        """Remove slots that have made their last step."""

    def wakes_at(self) -> float:
        """Return the time of the next step if no request arrives, or infinity."""


class StepLevel:
    """Step-level batching: a request joins at the next step if a slot is free.

    `worker.engine.batcher` chooses the slots of each step.
    """

    def __init__(self, device: Device) -> None:
        self._slots: list[Slot] = []
        self._most = device.slots
        self._batcher = Batcher(device.profile())

    def free_slots(self, waiting: int) -> int:
        return free_slots(self._slots, self._most)

    def admit(self, request: Request, now: float) -> None:
        self._slots.append(Slot(request, now))

    def step(self, now: float) -> list[Slot]:
        return self._batcher.choose(self._slots, now)

    def done(self, finished: list[Slot]) -> None:
        self._slots = [slot for slot in self._slots if slot not in finished]

    def wakes_at(self) -> float:
        return inf


class RequestLevel:
    """Request-level batching, MLPerf's rule.

    A batch starts when `size` requests of one image size wait, or the first of them has waited for
    `timeout_s`; no request joins until the batch is done. A request that needs fewer steps than
    the others in its batch is delivered early, which is better than such servers do.
    """

    def __init__(self, size: int, timeout_s: float) -> None:
        self._size = size
        self._timeout_s = timeout_s
        self._waiting: dict[Group, deque[Slot]] = {}
        self._batch: list[Slot] = []

    def free_slots(self, waiting: int) -> int:
        return waiting  # a batch is found among all waiting requests

    def admit(self, request: Request, now: float) -> None:
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
        return queue[0].request.at + self._timeout_s

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
    """Return the policy that runs one request after another."""
    return RequestLevel(size=1, timeout_s=0.0)
