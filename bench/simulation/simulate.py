"""Serving in simulated time: the worker's own scheduler beside two others, and a thousand workers.

    python -m bench simulate [--requests 3000] [--trace FILE] [--smoke]

Requests come as a Poisson process, in bursts, or as a trace says (`bench.simulation.requests`), and
meet devices whose step times were measured (`bench.engine.step_times`) or derived from published
figures.
The load is a share of what the device does when every step is a full batch. Policies: serial;
request-level, MLPerf's rule (a batch when as many wait as there are slots, or after 1.5 times what
such a batch takes, as in NVIDIA's submissions: 5 s for 3.4 s); the same rule with the time-out that
does best at this very load; and step-level, ours. A request is good if it takes no longer than
three times what it takes alone. Beyond a load of 1 the queue grows for as long as the run lasts.

Then up to a thousand workers take from one queue, whose Redis server costs what was measured
(`bench.simulation.redis`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from bench.common.report import RESULTS, arguments, publish, table
from bench.serving.policies import REQUEST_LEVEL, SERIAL, STEP_LEVEL
from bench.simulation import redis
from bench.simulation.devices import Device, measured, sdxl_h200
from bench.simulation.policies import RequestLevel, StepLevel, serial
from bench.simulation.requests import (
    Mix,
    Request,
    at_rate,
    bursty,
    poisson,
    read_trace,
    synthetic_trace,
    write_trace,
)
from bench.simulation.run import QueueCost, Served, simulate, summary

LOADS = (0.3, 0.5, 0.8, 1.0, 1.2)
PATIENCE = 1.5  # times a full batch: MLPerf's 5 s for batches of 3.4 s
PATIENCES = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5)  # among which the best is looked for
BEST_REQUEST_LEVEL = "request-level, best time-out"
MEASURED = RESULTS / "step_times-cpu.json"
WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
LOAD = 0.8  # of the summary, and of the many workers
JOBS_EACH = 30
LEAST_JOBS = 1000
SEED = 20261123

Arrivals = Callable[[float, int], Sequence[Request]]  # requests a second, how many


@dataclass(frozen=True)
class Way:
    """How requests arrive, and of what kinds; a kind is named as often as it is asked for."""

    name: str
    mix: Mix
    arrivals: Arrivals


def ways(device: Device, trace: Path | None) -> list[Way]:
    """What a device is put to."""
    one, mixed = [device.kind()], device.mixed()
    recorded = _trace(device, trace)

    return [
        Way("Poisson", one, lambda per_s, n: list(poisson(one, per_s, n, SEED))),
        Way("bursts", one, lambda per_s, n: list(bursty(one, per_s, n, SEED))),
        Way("Poisson, mixed", mixed, lambda per_s, n: list(poisson(mixed, per_s, n, SEED))),
        Way(
            "trace",
            [request.kind for request in recorded],
            lambda per_s, n: at_rate(recorded[:n], per_s),
        ),
    ]


def _trace(device: Device, path: Path | None) -> list[Request]:
    if path is not None:
        return read_trace(path, device.factor)
    with TemporaryDirectory() as folder:
        written = Path(folder) / "synthetic.csv"
        write_trace(written, synthetic_trace(device.side))
        return read_trace(written, device.factor)


def sweep(device: Device, way: Way, count: int, loads: Sequence[float]) -> list[dict[str, Any]]:
    """Every policy at every load, on the same arrivals."""
    capacity = device.capacity_per_s(way.mix)
    points = []
    for load in loads:
        requests = way.arrivals(load * capacity, count)
        for name, served in _by_policy(device, requests, way.mix).items():
            slowdowns = _slowdowns(served)
            points.append(
                {"policy": name, "load": load, "offered_per_s": load * capacity}
                | asdict(summary(served))
                | {"mean_slowdown_by_kind": slowdowns}
            )
    return points


def _by_policy(device: Device, requests: Sequence[Request], mix: Mix) -> dict[str, list[Served]]:
    batch_s = max(device.batch_s(kind) for kind in set(mix))

    def request_level(patience: float) -> list[Served]:
        return simulate(device, lambda: RequestLevel(device.slots, patience * batch_s), requests)

    tried = [request_level(patience) for patience in PATIENCES]
    return {
        SERIAL: simulate(device, serial, requests),
        REQUEST_LEVEL: request_level(PATIENCE),
        BEST_REQUEST_LEVEL: min(tried, key=lambda served: summary(served).mean_s),
        STEP_LEVEL: simulate(device, lambda: StepLevel(device), requests),
    }


def _slowdowns(served: Sequence[Served]) -> dict[str, float]:
    """Mean latency of each kind, in times of what it takes alone."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for each in served:
        kinds[each.kind.name].append(each.slowdown)
    return {name: fmean(values) for name, values in sorted(kinds.items())}


def crowd(device: Device, cost: redis.RedisCost, jobs_each: int) -> list[dict[str, Any]]:
    """One queue and ever more workers, each asked for the same. `done_per_s` is counted over the
    second half of the arrivals. Where Redis would need more than all of its time, it is what Redis
    leaves time for, and latencies grow without end (None)."""
    per_worker = LOAD * device.capacity_per_s([device.kind()])
    points: list[dict[str, Any]] = []
    for workers in WORKERS:
        rate = workers * per_worker
        share = cost.busy_share(workers, rate)
        point: dict[str, Any] = {"workers": workers, "asked_per_s": rate, "redis_busy": share}
        if share < 1:
            figures = _crowded(device, cost, workers, rate, max(LEAST_JOBS, workers * jobs_each))
        else:
            left = max(0.0, 1 - workers * cost.busy_worker)
            figures = {"done_per_s": left / cost.job_s, "mean_s": None, "p99_s": None}
        points.append(point | figures)
    return points


def _crowded(
    device: Device, cost: redis.RedisCost, workers: int, rate: float, jobs: int
) -> dict[str, Any]:
    requests = list(poisson([device.kind()], rate, jobs, SEED))
    # Half of a job's cost is taken to come with its claim, half with its end.
    each = QueueCost(cost.job_s / 2, cost.job_s / 2, busy=workers * cost.busy_worker)
    served = simulate(device, lambda: StepLevel(device), requests, workers, each)
    last = requests[-1].at
    done = sum(last / 2 < one.ended_at <= last for one in served)
    figures = summary(served)
    return {"done_per_s": done / (last / 2), "mean_s": figures.mean_s, "p99_s": figures.p99_s}


def _shown(title: str, points: Sequence[dict[str, Any]]) -> Table:
    columns = (
        "load",
        "policy",
        "mean s",
        "p50",
        "p95",
        "p99",
        "done/s",
        "good/s",
        "good",
        "× alone",
    )
    rows = [
        (
            p["load"], p["policy"], p["mean_s"], p["p50_s"], p["p95_s"], p["p99_s"],
            p["done_per_s"], p["good_per_s"], f"{p['good_share']:.0%}", p["mean_slowdown"],
        )
        for p in points
    ]  # fmt: skip
    return table(title, columns, rows)


def _shown_by_kind(points: Sequence[dict[str, Any]]) -> Table:
    at_load = [p for p in points if p["load"] == LOAD]
    kinds = list(at_load[0]["mean_slowdown_by_kind"])
    rows = [(p["policy"], *(p["mean_slowdown_by_kind"][kind] for kind in kinds)) for p in at_load]
    title = f"mean latency at a load of {LOAD}, in times of what each takes alone"
    return table(title, ("policy", *kinds), rows)


def _shown_crowd(device: Device, most: int, points: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (p["workers"], p["asked_per_s"], p["done_per_s"], p["mean_s"], p["p99_s"],
         f"{p['redis_busy']:.1%}")
        for p in points
    ]  # fmt: skip
    columns = ("workers", "asked/s", "done/s", "mean s", "p99 s", "Redis busy")
    title = f"{device.name}: many workers on one queue; one Redis server bears {most} of them"
    return table(title, columns, rows)


def gain(points: Sequence[dict[str, Any]], load: float) -> dict[str, float]:
    """How many times the mean latency of step-level the others' is."""
    mean = {p["policy"]: p["mean_s"] for p in points if p["load"] == load}
    return {name: mean[name] / mean[STEP_LEVEL] for name in mean if name != STEP_LEVEL}


def _shown_gains(gains: dict[str, dict[str, float]]) -> Table:
    names = list(next(iter(gains.values())))
    rows = [(title, *(each[name] for name in names)) for title, each in gains.items()]
    return table(f"mean latency at a load of {LOAD}, in times of step-level", ("", *names), rows)


def _shown_cost(cost: redis.RedisCost) -> Table:
    rows = [
        ("ms of a job", 1e3 * cost.job_s),
        ("ms a second, of an idle worker", 1e3 * cost.idle_worker),
        ("ms a second, of a busy worker", 1e3 * cost.busy_worker),
        *((f"{name}, calls a job", calls) for name, calls in cost.calls_per_job.items()),
    ]
    return table("what Redis spends, on its main thread", ("", "measured"), rows)


def main() -> None:
    parser = arguments("simulate", __doc__)
    parser.add_argument("--requests", type=int, default=3000, help="for each point")
    parser.add_argument("--trace", type=Path, help="to replay, instead of a synthetic one")
    given = parser.parse_args()
    count, loads = (120, (0.3, LOAD)) if given.smoke else (given.requests, LOADS)
    cost = redis.measure(*((40, 0.5) if given.smoke else (2000, 10.0)))
    tables: list[Table] = []
    points: dict[str, Any] = {}
    gains: dict[str, Any] = {}
    workers: dict[str, Any] = {}
    devices = [measured(MEASURED), sdxl_h200()]
    for device in devices:
        for way in ways(device, given.trace):
            title = f"{device.name}: {way.name}"
            points[title] = sweep(device, way, count, loads)
            gains[title] = gain(points[title], LOAD)
            tables.append(_shown(title, points[title]))
            if len(points[title][0]["mean_slowdown_by_kind"]) > 1:
                tables.append(_shown_by_kind(points[title]))
        most = cost.most_workers(LOAD * device.capacity_per_s([device.kind()]))
        points_of_crowd = crowd(device, cost, 2 if given.smoke else JOBS_EACH)
        workers[device.name] = {"most_for_one_redis": most, "points": points_of_crowd}
        tables.append(_shown_crowd(device, most, points_of_crowd))
    figures = {
        "devices": [asdict(device) for device in devices],
        "gain_at_0.8": gains,
        "redis": asdict(cost),
        "points": points,
        "workers": workers,
    }
    publish("simulate", given, "cpu", [*tables, _shown_gains(gains), _shown_cost(cost)], figures)


if __name__ == "__main__":
    main()
