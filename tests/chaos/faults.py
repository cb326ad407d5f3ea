"""What can go wrong, by name, and an adversary that lets it happen on a timetable drawn by lot.

A fault is a generator: it does its harm, yields for how many seconds that lasts (or, while it must
wait for something, when to look again), and puts things right. Faults of different parts overlap;
one part has one trouble at a time.
"""

import math
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

import redis

from tests.chaos.stack import LocalStack, Program

TICK_S = 0.05

Course = Generator[float, None, None]
Part = Literal["worker", "api", "redis", "network", "store"]


@dataclass(frozen=True)
class Fault:
    """`harm` gets the house, the program that was chosen if `part` is one, and the lot."""

    name: str
    part: Part
    harm: Callable[[LocalStack, Program, random.Random], Course]


@dataclass
class Incident:
    """A fault that happened: when, and to which process if to one."""

    fault: Fault
    at: float  # seconds since the epoch
    pid: int | None


def _killed(house: LocalStack, program: Program, rng: random.Random) -> Course:
    program.kill()
    yield rng.uniform(0.1, 1.0)
    program.start()


def _stopped(house: LocalStack, program: Program, rng: random.Random) -> Course:
    program.ask_to_stop()
    while program.runs:
        yield 0.1
    program.start()


def _frozen(
    shortest_s: float, longest_s: float
) -> Callable[[LocalStack, Program, random.Random], Course]:
    def harm(house: LocalStack, program: Program, rng: random.Random) -> Course:
        program.freeze()
        yield rng.uniform(shortest_s, longest_s)
        program.thaw()

    return harm


def _redis_killed(
    shortest_s: float, longest_s: float
) -> Callable[[LocalStack, Program, random.Random], Course]:
    def harm(house: LocalStack, _: Program, rng: random.Random) -> Course:
        house.redis.kill()
        yield rng.uniform(shortest_s, longest_s)
        house.redis.start()

    return harm


def _redis_hanging(house: LocalStack, _: Program, rng: random.Random) -> Course:
    house.redis.pause()
    yield rng.uniform(1.0, 4.0)
    house.redis.resume()


def _redis_pausing(house: LocalStack, _: Program, rng: random.Random) -> Course:
    seconds = rng.uniform(1.0, 4.0)
    with redis.Redis.from_url(house.redis.url) as client:
        client.execute_command("CLIENT", "PAUSE", int(1000 * seconds), "ALL")
    yield seconds


def _redis_full(house: LocalStack, _: Program, rng: random.Random) -> Course:
    with redis.Redis.from_url(house.redis.url) as client:
        client.config_set("maxmemory", 1)
        yield rng.uniform(1.0, 4.0)
        client.config_set("maxmemory", 0)


def _connections_reset(house: LocalStack, _: Program, rng: random.Random) -> Course:
    house.api_proxy.reset()
    house.worker_proxy.reset()
    yield 0.0


def _answers_lost(house: LocalStack, _: Program, rng: random.Random) -> Course:
    house.api_proxy.lose_answers(5)
    house.worker_proxy.lose_answers(5)
    yield 1.0


def _network_silent(house: LocalStack, _: Program, rng: random.Random) -> Course:
    proxy = rng.choice((house.api_proxy, house.worker_proxy))
    proxy.mute()
    yield rng.uniform(1.0, 4.0)
    proxy.unmute()


def _store(**trouble: float) -> Callable[[LocalStack, Program, random.Random], Course]:
    def harm(house: LocalStack, _: Program, rng: random.Random) -> Course:
        for name, value in trouble.items():
            setattr(house.bucket, name, value)
        yield rng.uniform(2.0, 6.0)
        house.bucket.well_again()

    return harm


def faults(lease_s: float) -> list[Fault]:
    """All of them, for workers whose leases last that long."""
    return [
        Fault("worker killed", "worker", _killed),
        Fault("worker stopped (SIGTERM)", "worker", _stopped),
        Fault("worker frozen past its lease", "worker", _frozen(1.5 * lease_s, 2 * lease_s)),
        Fault("worker frozen for a moment", "worker", _frozen(0.5, 0.4 * lease_s)),
        Fault("API killed", "api", _killed),
        Fault("API frozen", "api", _frozen(1.0, 4.0)),
        Fault("Redis killed, back at once", "redis", _redis_killed(0.0, 1.0)),
        Fault("Redis killed, away past the leases", "redis", _redis_killed(lease_s, 1.5 * lease_s)),
        Fault("Redis hanging", "redis", _redis_hanging),
        Fault("Redis pausing its clients", "redis", _redis_pausing),
        Fault("Redis out of memory", "redis", _redis_full),
        Fault("connections reset", "network", _connections_reset),
        Fault("answers lost", "network", _answers_lost),
        Fault("network silent", "network", _network_silent),
        Fault("store down", "store", _store(down=True)),
        Fault("store full", "store", _store(full=True)),
        Fault("store slow", "store", _store(slow_s=1.0)),
        Fault("store deaf (written, answer lost)", "store", _store(deaf_writes=5)),
    ]


@dataclass(frozen=True)
class Trouble:
    """A fault at work on `victim`, a program or a part; at `due` its course goes on."""

    course: Course
    victim: Program | Part
    due: float


@dataclass(frozen=True)
class Design:
    """What comes next, and how long after the one before it. All of it is drawn beforehand, so that
    a seed means the same however long things take."""

    fault: Fault
    program: Program
    lot: random.Random
    pause_s: float

    @property
    def victim(self) -> Program | Part:
        return self.program if self.fault.part in ("worker", "api") else self.fault.part


class Adversary:
    """Lets every fault happen equally often, in an order and after pauses drawn by lot."""

    def __init__(
        self, house: LocalStack, repertoire: list[Fault], pause_s: float, rng: random.Random
    ) -> None:
        """`pause_s`: the mean time from one fault to the next."""
        self.incidents: list[Incident] = []
        self._house = house
        self._repertoire = repertoire
        self._pause_s = pause_s
        self._rng = rng
        self._to_come: list[Fault] = []
        self._troubles: list[Trouble] = []

    def work(self, until: Callable[[], bool]) -> None:
        """Do harm until `until`, then put everything right."""
        design, last_at = self._design(), time.monotonic()
        while not until():
            self._go_on(time.monotonic())
            if last_at + design.pause_s <= time.monotonic() and self._is_well(design.victim):
                self._harm(design)
                design, last_at = self._design(), time.monotonic()
            time.sleep(TICK_S)
        while self._troubles:
            self._go_on(math.inf)
            time.sleep(TICK_S)

    def _design(self) -> Design:
        if not self._to_come:
            self._to_come = self._rng.sample(self._repertoire, len(self._repertoire))
        fault = self._to_come.pop()
        programs = self._house.apis if fault.part == "api" else self._house.workers
        return Design(
            fault,
            self._rng.choice(programs),
            random.Random(self._rng.random()),
            self._rng.uniform(0.5, 1.5) * self._pause_s,
        )

    def _is_well(self, victim: Program | Part) -> bool:
        return all(trouble.victim != victim for trouble in self._troubles)

    def _harm(self, design: Design) -> None:
        pid = design.program.pid if design.victim is design.program else None
        self.incidents.append(Incident(design.fault, time.time(), pid))
        course = design.fault.harm(self._house, design.program, design.lot)
        self._follow(course, design.victim)

    def _go_on(self, now: float) -> None:
        """With every course that is due."""
        due = [trouble for trouble in self._troubles if trouble.due <= now]
        self._troubles = [trouble for trouble in self._troubles if trouble.due > now]
        for trouble in due:
            self._follow(trouble.course, trouble.victim)

    def _follow(self, course: Course, victim: Program | Part) -> None:
        lasts_s = next(course, None)
        if lasts_s is not None:
            self._troubles.append(Trouble(course, victim, time.monotonic() + lasts_s))
