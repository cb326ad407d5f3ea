"""What can go wrong, by name, and an adversary that lets it happen on a timetable drawn by lot.

A fault is a generator: it does its harm, yields for how many seconds that lasts (or, while it must
wait for something, when to look again), and puts things right. Faults of different parts overlap;
one part has one trouble at a time.
"""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

import redis

from tests.chaos.house import House, Program

TICK_S = 0.05

Course = Generator[float, None, None]
Part = Literal["worker", "api", "redis", "network", "store"]


@dataclass(frozen=True)
class Fault:
    """`harm` gets the house, the program that was chosen if `part` is one, and the lot."""

    name: str
    part: Part
    harm: Callable[[House, Program, random.Random], Course]


@dataclass
class Incident:
    """A fault that happened: when, and to which process if to one."""

    fault: Fault
    at: float  # seconds since the epoch
    pid: int | None


def _killed(house: House, program: Program, rng: random.Random) -> Course:
    program.kill()
    yield rng.uniform(0.1, 1.0)
    program.start()


def _stopped(house: House, program: Program, rng: random.Random) -> Course:
    program.ask_to_stop()
    while program.runs:
        yield 0.1
    program.start()


def _frozen(
    shortest_s: float, longest_s: float
) -> Callable[[House, Program, random.Random], Course]:
    def harm(house: House, program: Program, rng: random.Random) -> Course:
        program.freeze()
        yield rng.uniform(shortest_s, longest_s)
        program.thaw()

    return harm


def _redis_killed(
    shortest_s: float, longest_s: float
) -> Callable[[House, Program, random.Random], Course]:
    def harm(house: House, _: Program, rng: random.Random) -> Course:
        house.redis.kill()
        yield rng.uniform(shortest_s, longest_s)
        house.redis.start()

    return harm


def _redis_hanging(house: House, _: Program, rng: random.Random) -> Course:
    house.redis.pause()
    yield rng.uniform(1.0, 4.0)
    house.redis.resume()


def _redis_pausing(house: House, _: Program, rng: random.Random) -> Course:
    seconds = rng.uniform(1.0, 4.0)
    with redis.Redis.from_url(house.redis.url) as client:
        client.execute_command("CLIENT", "PAUSE", int(1000 * seconds), "ALL")
    yield seconds


def _redis_full(house: House, _: Program, rng: random.Random) -> Course:
    with redis.Redis.from_url(house.redis.url) as client:
        client.config_set("maxmemory", 1)
        yield rng.uniform(1.0, 4.0)
        client.config_set("maxmemory", 0)


def _connections_reset(house: House, _: Program, rng: random.Random) -> Course:
    house.api_proxy.reset()
    house.worker_proxy.reset()
    yield 0.0


def _answers_lost(house: House, _: Program, rng: random.Random) -> Course:
    house.api_proxy.lose_answers(5)
    house.worker_proxy.lose_answers(5)
    yield 1.0


def _network_silent(house: House, _: Program, rng: random.Random) -> Course:
    proxy = rng.choice((house.api_proxy, house.worker_proxy))
    proxy.mute()
    yield rng.uniform(1.0, 4.0)
    proxy.unmute()


def _store(**trouble: float) -> Callable[[House, Program, random.Random], Course]:
    def harm(house: House, _: Program, rng: random.Random) -> Course:
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


class Adversary:
    """Lets every fault happen equally often, in an order and at times drawn by lot."""

    def __init__(
        self, house: House, repertoire: list[Fault], pause_s: float, rng: random.Random
    ) -> None:
        """`pause_s`: the mean time from one fault to the next."""
        self.incidents: list[Incident] = []
        self._house = house
        self._repertoire = repertoire
        self._pause_s = pause_s
        self._rng = rng
        self._to_come: list[Fault] = []
        self._courses: list[tuple[float, int, Course, Incident, object]] = []  # by when they end
        self._number = itertools.count()
        self._troubled: set[object] = set()  # programs and parts

    def work(self, until: Callable[[], bool]) -> None:
        """Do harm until `until`, then put everything right."""
        next_at = self._next_time()
        while not until():
            self._put_right(time.monotonic())
            if next_at <= time.monotonic():
                self._harm()
                next_at = self._next_time()
            time.sleep(TICK_S)
        while self._courses:
            self._put_right(float("inf"))
            time.sleep(TICK_S)

    def _next_time(self) -> float:
        return time.monotonic() + self._rng.uniform(0.5, 1.5) * self._pause_s

    def _harm(self) -> None:
        if not self._to_come:
            self._to_come = self._rng.sample(self._repertoire, len(self._repertoire))
        fault = self._to_come[-1]
        program = self._rng.choice(self._programs(fault.part))
        victim = program if fault.part in ("worker", "api") else fault.part
        if victim in self._troubled:
            return  # later
        self._to_come.pop()
        self._troubled.add(victim)
        incident = Incident(fault, time.time(), program.pid if victim is program else None)
        self.incidents.append(incident)
        course = fault.harm(self._house, program, self._rng)
        over = time.monotonic() + next(course)
        heapq.heappush(self._courses, (over, next(self._number), course, incident, victim))

    def _put_right(self, now: float) -> None:
        while self._courses and self._courses[0][0] <= now:
            _, number, course, incident, victim = heapq.heappop(self._courses)
            wait_s = next(course, None)
            if wait_s is None:
                self._troubled.discard(victim)
            else:
                again_at = time.monotonic() + wait_s
                heapq.heappush(self._courses, (again_at, number, course, incident, victim))

    def _programs(self, part: Part) -> list[Program]:
        return self._house.apis if part == "api" else self._house.workers
