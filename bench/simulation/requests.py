"""Arrivals of requests: Poisson, bursty, and from a trace.

A trace is CSV with a header: `at_s,width,height,steps,guided,priority`, one request a line, ordered
by `at_s` (seconds from the start); sizes in pixels, `guided` 0 or 1, priority 0 (high) to 2 (low).
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.engine.step_profile import Group

HEADER = ("at_s", "width", "height", "steps", "guided", "priority")
BURST_S = 20.0  # mean duration of a burst or a lull, in mean times between requests
BURST_SHARE = 1.8  # rate during a burst, in mean rates; the rest comes in the lulls
MINUTES = 10  # of a synthetic trace
REPEAT_SHARE = 0.4  # of its requests are followed by a second one of the same user


@dataclass(frozen=True)
class RequestKind:
    """Size, steps and rows of a request for one image."""

    group: Group
    steps: int
    rows: int = 2
    name: str = "one kind"


@dataclass(frozen=True)
class Request:
    """A kind and its time of arrival."""

    at: float
    kind: RequestKind
    priority: int = 1


Mix = Sequence[RequestKind]


def poisson(mix: Mix, per_s: float, count: int, seed: int) -> Iterator[Request]:
    """Yield `count` independent requests of the kinds in `mix`, all with the same probability."""
    chance, now = random.Random(seed), 0.0
    for _ in range(count):
        now += chance.expovariate(per_s)
        yield Request(now, chance.choice(mix))


def bursty(mix: Mix, per_s: float, count: int, seed: int) -> Iterator[Request]:
    """Yield requests in bursts, with the same mean rate: a Poisson process with two rates."""
    chance, now = random.Random(seed), 0.0
    rates = (BURST_SHARE * per_s, (2 - BURST_SHARE) * per_s)
    phase, switch_at = 0, chance.expovariate(per_s / BURST_S)
    made = 0
    while made < count:
        following = now + chance.expovariate(rates[phase])
        if following > switch_at:  # no request before the switch; the process has no memory
            now, phase = switch_at, 1 - phase
            switch_at += chance.expovariate(per_s / BURST_S)
            continue
        now = following
        made += 1
        yield Request(now, chance.choice(mix))


def read_trace(path: Path, factor: int) -> list[Request]:
    """Read the requests of a trace; `factor` is the downsampling factor of the autoencoder.

    Raises:
        ValueError: the file is not a trace.
    """
    with path.open(newline="") as lines:
        rows = csv.DictReader(lines)
        if tuple(rows.fieldnames or ()) != HEADER:
            raise ValueError(f"{path} begins with {rows.fieldnames}, but must with {HEADER}")
        return [_request(row, factor) for row in rows]


def write_trace(path: Path, lines: Iterable[tuple[float, int, int, int, int, int]]) -> None:
    """Write lines with the columns of `HEADER`."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(lines)


def synthetic_trace(side: int, seed: int = 0) -> list[tuple[float, int, int, int, int, int]]:
    """Return a synthetic day in ten minutes: the rate doubles until the middle and falls again,
    users repeat a request with more steps, and some images are large or urgent."""
    chance = random.Random(seed)
    lines: list[tuple[float, int, int, int, int, int]] = []
    now = 0.0
    while now < 60 * MINUTES:
        now += chance.expovariate(0.5 + 0.5 * (1 - abs(now / (30 * MINUTES) - 1)))
        large = chance.random() < 0.15
        width = height = side * 3 // 2 if large else side
        steps = chance.choice((8, 20, 20, 30))
        lines.append((round(now, 3), width, height, steps, int(chance.random() < 0.9), 1))
        if chance.random() < REPEAT_SHARE:
            again = round(now + chance.uniform(2, 10), 3)
            priority = chance.choice((0, 1, 1, 2))
            lines.append((again, width, height, 2 * steps, 1, priority))
    return sorted(lines)


def at_rate(requests: Sequence[Request], per_s: float) -> list[Request]:
    """Return the same trace, stretched in time to `per_s` requests a second on average."""
    squeeze = len(requests) / (requests[-1].at * per_s)
    return [Request(r.at * squeeze, r.kind, r.priority) for r in requests]


def _request(row: dict[str, str], factor: int) -> Request:
    height, width, steps = int(row["height"]), int(row["width"]), int(row["steps"])
    group = (4, height // factor, width // factor)
    rows = 1 + int(row["guided"])
    name = f"{width}×{height}"
    return Request(float(row["at_s"]), RequestKind(group, steps, rows, name), int(row["priority"]))
