"""Event simulation of one queue and any number of workers, and its summary."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from statistics import fmean

from bench.simulation.devices import Device
from bench.simulation.policies import Policy, Slot
from bench.simulation.requests import Request, RequestKind

SLO = 3.0  # times the latency of the request alone


@dataclass(frozen=True)
class Served:
    """A finished request and its latency in seconds."""

    kind: RequestKind
    latency_s: float
    slowdown: float  # in times of its latency alone
    ended_at: float


class Server:
    """A server that runs one command after another, like Redis.

    `busy` is the share of its time that other work takes.
    """

    def __init__(self, busy: float = 0.0) -> None:
        self._free_at = 0.0
        self._share = max(1e-9, 1.0 - busy)

    def serve(self, now: float, seconds: float) -> float:
        """Return the end time of a command that is sent at `now` and takes `seconds`."""
        self._free_at = max(now, self._free_at) + seconds / self._share
        return self._free_at


@dataclass(frozen=True)
class QueueCost:
    """Seconds of the queue's server for a job: to submit and claim it, and to finish it."""

    take_s: float = 0.0
    end_s: float = 0.0
    busy: float = 0.0


FREE = QueueCost()


def simulate(
    device: Device,
    policy: Callable[[], Policy],
    requests: Iterable[Request],
    workers: int = 1,
    cost: QueueCost = FREE,
) -> list[Served]:
    """Serve all `requests` with `workers` devices on one queue."""
    return _Run(device, [policy() for _ in range(workers)], cost).serve(requests)


class _Run:
    """State of a simulation.

    A worker has a turn between two of its steps. An idle worker gets a turn when a request arrives
    or when a time-out of its policy ends.
    """

    def __init__(self, device: Device, policies: list[Policy], cost: QueueCost) -> None:
        self._device = device
        self._profile = device.profile()
        self._policies = policies
        self._cost = cost
        self._redis = Server(cost.busy)
        self._queue: deque[Request] = deque()
        self._idle = deque(range(len(policies)))
        self._events: list[tuple[float, int, int]] = []  # time, number, worker
        self._numbers = count()
        self._next_turn = [
            -1 for _ in policies
        ]  # number of each worker's next turn; other events are ignored
        self._ended: list[list[tuple[Slot, float]]] = [[] for _ in policies]
        self._alone: dict[RequestKind, float] = {}
        self._served: list[Served] = []

    def serve(self, requests: Iterable[Request]) -> list[Served]:
        for request in requests:
            self._run_until(request.at)
            self._queue.append(request)
            if self._idle:
                self._turn_at(request.at, self._idle.popleft())
        self._run_until(inf)
        return self._served

    def _run_until(self, moment: float) -> None:
        while self._events and self._events[0][0] <= moment:
            now, number, worker = heapq.heappop(self._events)
            if self._next_turn[worker] == number:
                self._turn(now, worker)

    def _turn_at(self, time: float, worker: int) -> None:
        self._next_turn[worker] = number = next(self._numbers)
        heapq.heappush(self._events, (time, number, worker))

    def _turn(self, now: float, worker: int) -> None:
        policy = self._policies[worker]
        if worker in self._idle:
            self._idle.remove(worker)
        self._report_finished(now, worker)
        for _ in range(min(len(self._queue), policy.free_slots(len(self._queue)))):
            now = self._redis.serve(now, self._cost.take_s)
            policy.admit(self._queue.popleft(), now)
        if batch := policy.step(now):
            self._turn_at(self._step(now, worker, batch), worker)
            return
        self._idle.append(worker)
        if policy.wakes_at() < inf:
            self._turn_at(policy.wakes_at(), worker)

    def _step(self, now: float, worker: int, batch: list[Slot]) -> float:
        """Make a step, then decode the finished images; returns when the device is free again."""
        rows = sum(slot.rows for slot in batch)
        now += self._profile.step_seconds(batch[0].group, rows)
        for slot in batch:
            slot.steps_left -= 1
        finished = [slot for slot in batch if not slot.steps_left]
        for slot in finished:
            now += self._device.decode_seconds(slot.group)
            self._ended[worker].append((slot, now))
        if finished:
            self._policies[worker].done(finished)
        return now

    def _report_finished(self, now: float, worker: int) -> None:
        """Report the jobs that the last step has finished to the queue."""
        for slot, ended_at in self._ended[worker]:
            report_s = self._redis.serve(now, self._cost.end_s) - now
            self._record(slot, ended_at + report_s)
        self._ended[worker].clear()

    def _record(self, slot: Slot, ended_at: float) -> None:
        if slot.kind not in self._alone:
            self._alone[slot.kind] = self._device.alone_s(slot.kind)
        latency_s = ended_at - slot.request.at
        slowdown = latency_s / self._alone[slot.kind]
        self._served.append(Served(slot.kind, latency_s, slowdown, ended_at))


@dataclass(frozen=True)
class Summary:
    """Results of a policy, in seconds; `good_per_s` counts requests within the SLO."""

    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    mean_slowdown: float
    done_per_s: float
    good_per_s: float
    good_share: float


def summary(served: Sequence[Served]) -> Summary:
    """Summarise at least one request."""
    seconds = sorted(each.latency_s for each in served)
    good = sum(each.slowdown <= SLO for each in served)
    span_s = max(each.ended_at for each in served)
    return Summary(
        mean_s=fmean(seconds),
        p50_s=quantile(seconds, 0.50),
        p95_s=quantile(seconds, 0.95),
        p99_s=quantile(seconds, 0.99),
        mean_slowdown=fmean(each.slowdown for each in served),
        done_per_s=len(served) / span_s,
        good_per_s=good / span_s,
        good_share=good / len(served),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that a share `share` of all values does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
