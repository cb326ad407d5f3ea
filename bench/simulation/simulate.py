"""Simulation of the worker's scheduler, two other policies, and up to a thousand workers.

    python -m bench simulate [--requests 3000] [--trace FILE] [--smoke]

Requests arrive as a Poisson process, in bursts, or from a trace (`bench.simulation.requests`). The
step times of the devices were measured (`bench.engine.step_times`) or derived from published
figures. The load is a share of the capacity with a full batch in every step. Policies:

    serial          one request after another
    request-level   MLPerf's rule: a batch starts when as many wait as there are slots, or after 1.5
                    times the duration of such a batch (as in NVIDIA's submissions: 5 s for 3.4 s)
    request-level, best time-out
                    the same rule with the time-out that is best at this load
    step-level      Darkroom's own

A request is good if it takes at most three times its latency alone. Above a load of 1 the queue
grows during the whole run.

Then up to a thousand workers claim jobs from one queue, with the measured cost of its Redis server
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
TIMEOUT = 1.5  # times a full batch: MLPerf's 5 s for batches of 3.4 s
TIMEOUTS = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5)  # of which the best is chosen
BEST_REQUEST_LEVEL = "request-level, best time-out"
MEASURED = RESULTS / "step_times-cpu.json"
WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
LOAD = 0.8  # of the summary and of the many workers
JOBS_PER_WORKER = 30
MIN_JOBS = 1000
SEED = 20261123

Arrivals = Callable[[float, int], Sequence[Request]]  # requests a second, number of requests


@dataclass(frozen=True)
class Scenario:
    """Arrivals of requests and their kinds; a kind occurs in `mix` as often as in the requests."""

    name: str
    mix: Mix
    arrivals: Arrivals


def scenarios(device: Device, trace: Path | None) -> list[Scenario]:
    """Return the scenarios of a device."""
    one, mixed = [device.kind()], device.mixed()
    recorded = _trace(device, trace)

    return [
        Scenario("Poisson", one, lambda per_s, n: list(poisson(one, per_s, n, SEED))),
        Scenario("bursts", one, lambda per_s, n: list(bursty(one, per_s, n, SEED))),
        Scenario("Poisson, mixed", mixed, lambda per_s, n: list(poisson(mixed, per_s, n, SEED))),
        Scenario(
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


def run_loads(
    device: Device, scenario: Scenario, count: int, loads: Sequence[float]
) -> list[dict[str, Any]]:
    """Simulate every policy at every load, with the same arrivals."""
    capacity = device.capacity_per_s(scenario.mix)
    points = []
    for load in loads:
        requests = scenario.arrivals(load * capacity, count)
        for name, served in _by_policy(device, requests, scenario.mix).items():
            slowdowns = _slowdowns(served)
            points.append(
                {"policy": name, "load": load, "offered_per_s": load * capacity}
                | asdict(summary(served))
                | {"mean_slowdown_by_kind": slowdowns}
            )
    return points


def _by_policy(device: Device, requests: Sequence[Request], mix: Mix) -> dict[str, list[Served]]:
    batch_s = max(device.batch_s(kind) for kind in set(mix))

    def request_level(timeout: float) -> list[Served]:
        return simulate(device, lambda: RequestLevel(device.slots, timeout * batch_s), requests)

    tried = [request_level(timeout) for timeout in TIMEOUTS]
    return {
        SERIAL: simulate(device, serial, requests),
        REQUEST_LEVEL: request_level(TIMEOUT),
        BEST_REQUEST_LEVEL: min(tried, key=lambda served: summary(served).mean_s),
        STEP_LEVEL: simulate(device, lambda: StepLevel(device), requests),
    }


def _slowdowns(served: Sequence[Served]) -> dict[str, float]:
    """Return the mean latency of each kind, in times of its latency alone."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for each in served:
        kinds[each.kind.name].append(each.slowdown)
    return {name: fmean(values) for name, values in sorted(kinds.items())}


def many_workers(
    device: Device, cost: redis.RedisCost, jobs_per_worker: int
) -> list[dict[str, Any]]:
    """Simulate one queue with more and more workers, at the same load of each.

    `done_per_s` is counted over the second half of the arrivals. If Redis needs more time than
    there is, it is the rate that Redis allows, and latencies grow without bound (None).
    """
    per_worker = LOAD * device.capacity_per_s([device.kind()])
    points: list[dict[str, Any]] = []
    for workers in WORKERS:
        rate = workers * per_worker
        share = cost.busy_share(workers, rate)
        point: dict[str, Any] = {"workers": workers, "asked_per_s": rate, "redis_busy": share}
        if share < 1:
            jobs = max(MIN_JOBS, workers * jobs_per_worker)
            figures = _simulate_workers(device, cost, workers, rate, jobs)
        else:
            left = max(0.0, 1 - workers * cost.busy_worker)
            figures = {"done_per_s": left / cost.job_s, "mean_s": None, "p99_s": None}
        points.append(point | figures)
    return points


def _simulate_workers(
    device: Device, cost: redis.RedisCost, workers: int, rate: float, jobs: int
) -> dict[str, Any]:
    requests = list(poisson([device.kind()], rate, jobs, SEED))
    # Half of a job's cost is assumed at its claim, half at its end.
    each = QueueCost(cost.job_s / 2, cost.job_s / 2, busy=workers * cost.busy_worker)
    served = simulate(device, lambda: StepLevel(device), requests, workers, each)
    last = requests[-1].at
    done = sum(last / 2 < one.ended_at <= last for one in served)
    figures = summary(served)
    return {"done_per_s": done / (last / 2), "mean_s": figures.mean_s, "p99_s": figures.p99_s}


def _points_table(title: str, points: Sequence[dict[str, Any]]) -> Table:
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


def _kinds_table(points: Sequence[dict[str, Any]]) -> Table:
    at_load = [p for p in points if p["load"] == LOAD]
    kinds = list(at_load[0]["mean_slowdown_by_kind"])
    rows = [(p["policy"], *(p["mean_slowdown_by_kind"][kind] for kind in kinds)) for p in at_load]
    title = f"mean latency at a load of {LOAD}, in times of the latency alone"
    return table(title, ("policy", *kinds), rows)


def _workers_table(device: Device, most: int, points: Sequence[dict[str, Any]]) -> Table:
    rows = [
        (p["workers"], p["asked_per_s"], p["done_per_s"], p["mean_s"], p["p99_s"],
         f"{p['redis_busy']:.1%}")
        for p in points
    ]  # fmt: skip
    columns = ("workers", "requests/s", "done/s", "mean s", "p99 s", "Redis busy")
    title = f"{device.name}: many workers on one queue; one Redis server supports {most} of them"
    return table(title, columns, rows)


def gain(points: Sequence[dict[str, Any]], load: float) -> dict[str, float]:
    """Return the mean latency of each other policy, in times of that of step-level."""
    mean = {p["policy"]: p["mean_s"] for p in points if p["load"] == load}
    return {name: mean[name] / mean[STEP_LEVEL] for name in mean if name != STEP_LEVEL}


def _gains_table(gains: dict[str, dict[str, float]]) -> Table:
    names = list(next(iter(gains.values())))
    rows = [(title, *(each[name] for name in names)) for title, each in gains.items()]
    return table(f"mean latency at a load of {LOAD}, in times of step-level", ("", *names), rows)


def _cost_table(cost: redis.RedisCost) -> Table:
    rows = [
        ("ms per job", 1e3 * cost.job_s),
        ("ms per second, idle worker", 1e3 * cost.idle_worker),
        ("ms per second, busy worker", 1e3 * cost.busy_worker),
        *((f"{name}, calls per job", calls) for name, calls in cost.calls_per_job.items()),
    ]
    return table("CPU time of Redis' main thread", ("", "measured"), rows)


def main() -> None:
    parser = arguments("simulate", __doc__)
    parser.add_argument("--requests", type=int, default=3000, help="requests for each point")
    parser.add_argument("--trace", type=Path, help="trace to replay instead of a synthetic one")
    given = parser.parse_args()
    count, loads = (120, (LOAD,)) if given.smoke else (given.requests, LOADS)
    cost = redis.measure(*((40, 0.5) if given.smoke else (2000, 10.0)))
    tables: list[Table] = []
    points: dict[str, Any] = {}
    gains: dict[str, Any] = {}
    workers: dict[str, Any] = {}
    devices = [measured(MEASURED), sdxl_h200()]
    for device in devices:
        for scenario in scenarios(device, given.trace):
            title = f"{device.name}: {scenario.name}"
            points[title] = run_loads(device, scenario, count, loads)
            gains[title] = gain(points[title], LOAD)
            tables.append(_points_table(title, points[title]))
            if len(points[title][0]["mean_slowdown_by_kind"]) > 1:
                tables.append(_kinds_table(points[title]))
        most = cost.most_workers(LOAD * device.capacity_per_s([device.kind()]))
        worker_points = many_workers(device, cost, 2 if given.smoke else JOBS_PER_WORKER)
        workers[device.name] = {"most_for_one_redis": most, "points": worker_points}
        tables.append(_workers_table(device, most, worker_points))
    figures = {
        "devices": [asdict(device) for device in devices],
        "gain_at_0.8": gains,
        "redis": asdict(cost),
        "points": points,
        "workers": workers,
    }
    publish("simulate", given, "cpu", [*tables, _gains_table(gains), _cost_table(cost)], figures)


if __name__ == "__main__":
    main()
