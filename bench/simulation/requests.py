"""Who asks for what and when.

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
BURST_S = 20.0  # times the mean time between requests: how long a burst, or a lull, lasts
BURST_SHARE = 1.8  # of the mean rate, while a burst lasts; the rest comes in the lulls
MINUTES = 10  # of a synthetic trace
NEXT_BY_SAME = 0.4  # of its requests come from somebody who looks at a picture and asks again


@dataclass(frozen=True)
class Kind:
    """What is asked for: one picture."""

    group: Group
    steps: int
    rows: int = 2
    name: str = "one kind"


@dataclass(frozen=True)
class Request:
    """A kind, and when somebody asked for it."""

    at: float
    kind: Kind
    priority: int = 1


Mix = Sequence[Kind]


def poisson(mix: Mix, per_s: float, count: int, seed: int) -> Iterator[Request]:
    """`count` requests of the kinds in `mix`, all as likely, independent of each other."""
    chance, now = random.Random(seed), 0.0
    for _ in range(count):
        now += chance.expovariate(per_s)
        yield Request(now, chance.choice(mix))


def bursty(mix: Mix, per_s: float, count: int, seed: int) -> Iterator[Request]:
    """The same on average, but in bursts: a Poisson process whose rate switches between two."""
    chance, now = random.Random(seed), 0.0
    rates = (BURST_SHARE * per_s, (2 - BURST_SHARE) * per_s)
    phase, switch_at = 0, chance.expovariate(per_s / BURST_S)
    made = 0
    while made < count:
        following = now + chance.expovariate(rates[phase])
        if following > switch_at:  # nothing came before the switch; the process has no memory
            now, phase = switch_at, 1 - phase
            switch_at += chance.expovariate(per_s / BURST_S)
            continue
        now = following
        made += 1
        yield Request(now, chance.choice(mix))


def read_trace(path: Path, factor: int) -> list[Request]:
    """The requests of a trace; `factor` is the pixels to a side of a latent.

    Raises ValueError for a file that is no trace.
    """
    with path.open(newline="") as lines:
        rows = csv.DictReader(lines)
        if tuple(rows.fieldnames or ()) != HEADER:
            raise ValueError(f"{path} begins with {rows.fieldnames}, but must with {HEADER}")
        return [_request(row, factor) for row in rows]


def write_trace(path: Path, lines: Iterable[tuple[float, int, int, int, int, int]]) -> None:
    """Write lines as `HEADER` names them."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(lines)


def synthetic_trace(side: int, seed: int = 0) -> list[tuple[float, int, int, int, int, int]]:
    """A made-up day in ten minutes: the rate doubles to the middle and falls again; people try
    things in few steps, then ask for more; now and then a large picture, or an urgent one."""
    chance = random.Random(seed)
    lines: list[tuple[float, int, int, int, int, int]] = []
    now = 0.0
    while now < 60 * MINUTES:
        now += chance.expovariate(0.5 + 0.5 * (1 - abs(now / (30 * MINUTES) - 1)))
        large = chance.random() < 0.15
        width = height = side * 3 // 2 if large else side
        steps = chance.choice((8, 20, 20, 30))
        lines.append((round(now, 3), width, height, steps, int(chance.random() < 0.9), 1))
        if chance.random() < NEXT_BY_SAME:
            again = round(now + chance.uniform(2, 10), 3)
            priority = chance.choice((0, 1, 1, 2))
            lines.append((again, width, height, 2 * steps, 1, priority))
    return sorted(lines)


def at_rate(requests: Sequence[Request], per_s: float) -> list[Request]:
    """The same trace, slower or faster, so that it asks for `per_s` on average."""
    squeeze = len(requests) / (requests[-1].at * per_s)
    return [Request(r.at * squeeze, r.kind, r.priority) for r in requests]


def _request(row: dict[str, str], factor: int) -> Request:
    height, width, steps = int(row["height"]), int(row["width"]), int(row["steps"])
    group = (4, height // factor, width // factor)
    rows = 1 + int(row["guided"])
    name = f"{width}×{height}"
    return Request(float(row["at_s"]), Kind(group, steps, rows, name), int(row["priority"]))
