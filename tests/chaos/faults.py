"""Faults by name, and an injector with random times and order.

A fault is a generator: it injects the fault, yields the seconds until it continues (once for the
duration of the fault, or repeatedly to poll a condition), and then repairs the part. Faults of
different parts overlap; a part has at most one fault at a time.
"""

import math
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

import redis

from tests.chaos.journal import EMPTIED
from tests.chaos.stack import ChaosStack, Program

POLL_S = 0.05

FaultSteps = Generator[float, None, None]
Part = Literal["worker", "api", "redis", "network", "store"]


@dataclass(frozen=True)
class Fault:
    """A kind of fault; `inject` gets the stack, the chosen program and a random generator."""

    name: str
    part: Part
    inject: Callable[[ChaosStack, Program, random.Random], FaultSteps]


@dataclass
class Incident:
    """A fault that happened: its time, and the id of its process if it hit one."""

    fault: Fault
    at: float  # seconds since the epoch
    pid: int | None


def _killed(stack: ChaosStack, program: Program, rng: random.Random) -> FaultSteps:
    program.kill()
    yield rng.uniform(0.1, 1.0)
    program.start()


def _stopped(stack: ChaosStack, program: Program, rng: random.Random) -> FaultSteps:
    program.terminate()
    while program.runs:
        yield 0.1
    program.start()


def _frozen(
    shortest_s: float, longest_s: float
) -> Callable[[ChaosStack, Program, random.Random], FaultSteps]:
    def inject(stack: ChaosStack, program: Program, rng: random.Random) -> FaultSteps:
        program.freeze()
        yield rng.uniform(shortest_s, longest_s)
        program.thaw()

    return inject


def _redis_killed(
    shortest_s: float, longest_s: float
) -> Callable[[ChaosStack, Program, random.Random], FaultSteps]:
    def inject(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
        stack.redis.kill()
        yield rng.uniform(shortest_s, longest_s)
        stack.redis.start()

    return inject


def _redis_hanging(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
    stack.redis.pause()
    yield rng.uniform(1.0, 4.0)
    stack.redis.resume()


def _redis_pausing(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
    seconds = rng.uniform(1.0, 4.0)
    with redis.Redis.from_url(stack.redis.url) as client:
        client.execute_command("CLIENT", "PAUSE", int(1000 * seconds), "ALL")
    yield seconds


def _redis_full(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
    with redis.Redis.from_url(stack.redis.url) as client:
        client.config_set("maxmemory", 1)
        yield rng.uniform(1.0, 4.0)
        client.config_set("maxmemory", 0)


def _redis_emptied(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
    # As after a restart without persistence, or a failover to an empty replica.
    with redis.Redis.from_url(stack.redis.url) as client, client.pipeline() as pipe:
        pipe.flushall()
        pipe.script_flush()
        pipe.set(EMPTIED, time.time(), px=1)  # for the journal
        pipe.execute()
    yield 0.0


def _connections_reset(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
    stack.api_proxy.reset()
    stack.worker_proxy.reset()
    yield 0.0


def _responses_lost(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
    stack.api_proxy.lose_responses(5)
    stack.worker_proxy.lose_responses(5)
    yield 1.0


def _network_silent(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
    proxy = rng.choice((stack.api_proxy, stack.worker_proxy))
    proxy.mute()
    yield rng.uniform(1.0, 4.0)
    proxy.unmute()


def _store(**settings: float) -> Callable[[ChaosStack, Program, random.Random], FaultSteps]:
    def inject(stack: ChaosStack, _: Program, rng: random.Random) -> FaultSteps:
        for name, value in settings.items():
            setattr(stack.bucket, name, value)
        yield rng.uniform(2.0, 6.0)
        stack.bucket.recover()

    return inject


def faults(lease_s: float) -> list[Fault]:
    """Return all faults, for workers whose leases last `lease_s`."""
    return [
        Fault("worker killed", "worker", _killed),
        Fault("worker stopped (SIGTERM)", "worker", _stopped),
        Fault("worker frozen longer than its lease", "worker", _frozen(1.5 * lease_s, 2 * lease_s)),
        Fault("worker frozen briefly", "worker", _frozen(0.5, 0.4 * lease_s)),
        Fault("API killed", "api", _killed),
        Fault("API frozen", "api", _frozen(1.0, 4.0)),
        Fault("Redis killed, back at once", "redis", _redis_killed(0.0, 1.0)),
        Fault(
            "Redis killed, away longer than the leases",
            "redis",
            _redis_killed(lease_s, 1.5 * lease_s),
        ),
        Fault("Redis emptied (FLUSHALL)", "redis", _redis_emptied),
        Fault("Redis hanging", "redis", _redis_hanging),
        Fault("Redis pausing its clients", "redis", _redis_pausing),
        Fault("Redis out of memory", "redis", _redis_full),
        Fault("connections reset", "network", _connections_reset),
        Fault("responses lost", "network", _responses_lost),
        Fault("network silent", "network", _network_silent),
        Fault("store down", "store", _store(down=True)),
        Fault("store full", "store", _store(full=True)),
        Fault("store slow", "store", _store(slow_s=1.0)),
        Fault("store writes, response lost", "store", _store(unanswered_writes=5)),
    ]


@dataclass(frozen=True)
class ActiveFault:
    """A fault in progress at `target`, a program or a part; its steps continue at `due_at`."""

    steps: FaultSteps
    target: Program | Part
    due_at: float


@dataclass(frozen=True)
class PlannedFault:
    """The next fault and the pause before it. All random values are chosen in advance, so that a
    seed gives the same plan however long the faults take."""

    fault: Fault
    program: Program
    rng: random.Random
    pause_s: float

    @property
    def target(self) -> Program | Part:
        return self.program if self.fault.part in ("worker", "api") else self.fault.part


class FaultInjector:
    """Injector of all faults, equally often, in a random order and after random pauses."""

    def __init__(
        self, stack: ChaosStack, faults: list[Fault], pause_s: float, rng: random.Random
    ) -> None:
        """`pause_s`: the mean time from one fault to the next."""
        self.incidents: list[Incident] = []
        self._stack = stack
        self._faults = faults
        self._pause_s = pause_s
        self._rng = rng
        self._pending: list[Fault] = []
        self._active: list[ActiveFault] = []

    def run(self, until: Callable[[], bool]) -> None:
        """Inject faults until `until` holds, then repair everything."""
        planned, last_at = self._plan(), time.monotonic()
        while not until():
            self._continue_due(time.monotonic())
            if last_at + planned.pause_s <= time.monotonic() and self._is_healthy(planned.target):
                self._inject(planned)
                planned, last_at = self._plan(), time.monotonic()
            time.sleep(POLL_S)
        while self._active:
            self._continue_due(math.inf)
            time.sleep(POLL_S)

    def _plan(self) -> PlannedFault:
        if not self._pending:
            self._pending = self._rng.sample(self._faults, len(self._faults))
        fault = self._pending.pop()
        programs = self._stack.apis if fault.part == "api" else self._stack.workers
        return PlannedFault(
            fault,
            self._rng.choice(programs),
            random.Random(self._rng.random()),
            self._rng.uniform(0.5, 1.5) * self._pause_s,
        )

    def _is_healthy(self, target: Program | Part) -> bool:
        return all(active.target != target for active in self._active)

    def _inject(self, planned: PlannedFault) -> None:
        pid = planned.program.pid if planned.target is planned.program else None
        self.incidents.append(Incident(planned.fault, time.time(), pid))
        steps = planned.fault.inject(self._stack, planned.program, planned.rng)
        self._advance(steps, planned.target)

    def _continue_due(self, now: float) -> None:
        due = [active for active in self._active if active.due_at <= now]
        self._active = [active for active in self._active if active.due_at > now]
        for active in due:
            self._advance(active.steps, active.target)

    def _advance(self, steps: FaultSteps, target: Program | Part) -> None:
        pause_s = next(steps, None)
        if pause_s is not None:
            self._active.append(ActiveFault(steps, target, time.monotonic() + pause_s))
