"""Overhead of the service: HTTP, queue, PNG and store, without a model.

    python -m bench overhead [--seconds 5]

Redis, API and worker are the real programs, and the worker is `bench.common.null_worker`, which
runs no model. The client shares the cores with them. Measured are:
- the latency of an image in base64 for one client and for two;
- what a dialect adds to that latency, with requests of both in turn;
- the accepted requests a second of many asynchronous clients;
- the latency of a job's status while two hundred clients wait for their images;
- the memory of each process, and its CPU time for one image;
- the latency of a response that takes no work, to show how fast the machine is at that time.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass

import uvloop

from bench.common.client import Connection
from bench.common.report import arguments, publish, table
from bench.common.stack import BenchmarkStack, benchmark_stack
from bench.serving.flood import ASYNC, PATH, Flood, flood
from darkroom.processes.process import this_python

WORKER = this_python("bench.common.null_worker")
BODY = {"prompt": "a small red house by the sea", "steps": 20}
WAITING_CLIENTS = 200
FLOODING = 32  # connections
NO_BOUND = {"DARKROOM_MAX_QUEUE_LENGTH": "1000000", "DARKROOM_MAX_QUEUE_PER_CLIENT": "1000000"}
# Routes that take the same body.
DIALECTS = {"openai": "/v1/images/generations", "automatic1111": "/sdapi/v1/txt2img"}
TARGETS = {
    "added_p50_ms": 5.0,
    "accepted_per_s": 500.0,
    "api_mb": 120.0,
    "dialect_added_percent": 5.0,
}


@dataclass(frozen=True)
class Latency:
    """Quantiles of a latency in milliseconds."""

    what: str
    samples: int
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @staticmethod
    def of(what: str, seconds: list[float]) -> Latency:
        ordered = sorted(seconds)
        p50, p95, p99 = (1000 * ordered[int(q * (len(ordered) - 1))] for q in (0.5, 0.95, 0.99))
        return Latency(what, len(ordered), p50, p95, p99)


async def timed(
    url: str, clients: int, seconds: float, ask: Callable[[Connection], Awaitable[object]]
) -> list[float]:
    """Return the seconds of every `ask`. Each of `clients` repeats it at once, for `seconds`."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds

    async def client() -> None:
        async with Connection(url) as connection:
            while (started := time.perf_counter()) < ends:
                await ask(connection)
                taken.append(time.perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken


async def in_turn(url: str, paths: Iterable[str], seconds: float) -> dict[str, list[float]]:
    """Return the seconds of an image by each route. One client asks them in turn, so that a change
    of the machine's speed meets all."""
    taken: dict[str, list[float]] = {path: [] for path in paths}
    ends = time.perf_counter() + seconds
    async with Connection(url) as connection:
        while time.perf_counter() < ends:
            for path, times in taken.items():
                started = time.perf_counter()
                (await connection.post(path, BODY)).expect(200)
                times.append(time.perf_counter() - started)
    return taken


async def compared_with_dialects(url: str, seconds: float) -> list[Latency]:
    """Measure an image by our route and by that of each dialect."""
    names = {PATH: "native", **{path: name for name, path in DIALECTS.items()}}
    taken = await in_turn(url, names, seconds)
    return [Latency.of(f"an image, {names[path]} route", times) for path, times in taken.items()]


async def get_image(connection: Connection) -> None:
    (await connection.post(PATH, BODY)).expect(200)


async def get_health(connection: Connection) -> None:
    (await connection.get("/healthz")).expect(200)


async def polls_among_waiting(stack: BenchmarkStack, clients: int, seconds: float) -> Latency:
    """Measure the status request of a job while `clients` wait for images.

    The worker is suspended meanwhile, as if its step took long, so that no image is finished.
    """
    stack.worker.suspend()
    waiting = [asyncio.create_task(timed(stack.url, 1, 0.001, get_image)) for _ in range(clients)]
    async with Connection(stack.url) as connection:
        job = (await connection.post(PATH, BODY, ASYNC)).expect(202).json()["id"]
    await asyncio.sleep(1)  # until all of them wait

    async def get_status(connection: Connection) -> None:
        (await connection.get(f"/v1/jobs/{job}")).expect(200)

    polls = await timed(stack.url, 1, seconds, get_status)
    stack.worker.resume()
    await asyncio.gather(*waiting)
    return Latency.of(f"job status, {clients} waiting", polls)


@dataclass(frozen=True)
class Findings:
    """All measurements; `cpu_ms` is for one image, memory is in MiB for each process."""

    latencies: list[Latency]
    dialects: list[Latency]  # the first is that of our own route
    flooded: Flood
    cpu_ms: dict[str, float]
    before_mb: dict[str, float]
    after_mb: dict[str, float]

    def added_percent(self, of_dialect: Latency) -> float:
        """Return by how much a dialect's p50 is above that of our own route."""
        return 100 * (of_dialect.p50_ms / self.dialects[0].p50_ms - 1)


async def measure(seconds: float, clients: int) -> Findings:
    async with benchmark_stack(WORKER, NO_BOUND) as stack:
        await timed(stack.url, 1, min(1.0, seconds), get_image)  # warm-up
        before_mb = stack.memory_mb()
        health = await timed(stack.url, 1, min(1.0, seconds), get_health)
        before_s = stack.cpu_s()
        alone = await timed(stack.url, 1, seconds, get_image)
        cpu_ms = {
            name: 1000 * (after - before_s[name]) / len(alone)
            for name, after in stack.cpu_s().items()
        }
        pair = await timed(stack.url, 2, seconds, get_image)
        dialects = await compared_with_dialects(stack.url, 2 * seconds)
        polls = await polls_among_waiting(stack, clients, seconds)
        flooded = await flood(stack.url, BODY, FLOODING, seconds)
        latencies = [
            Latency.of("health check, 1 client", health),
            Latency.of("an image, 1 client", alone),
            Latency.of("an image, 2 clients", pair),
            polls,
        ]
        return Findings(latencies, dialects, flooded, cpu_ms, before_mb, stack.memory_mb())


def options() -> argparse.ArgumentParser:
    parser = arguments("overhead", __doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--clients", type=int, default=WAITING_CLIENTS, help="waiting clients")
    return parser


def main() -> None:
    given = options().parse_args()
    seconds, clients = (0.3, 10) if given.smoke else (given.seconds, given.clients)
    found = uvloop.run(measure(seconds, clients))
    flooded = found.flooded
    publish(
        "overhead",
        given,
        "cpu",
        [
            table(
                "Without a model",
                ("what", "samples", "p50 ms", "p95 ms", "p99 ms"),
                (asdict(latency).values() for latency in found.latencies),
            ),
            table(
                "Dialects, in turn with our own route",
                ("what", "samples", "p50 ms", "p95 ms", "p99 ms", "p50 added %"),
                (
                    (*asdict(latency).values(), found.added_percent(latency))
                    for latency in found.dialects
                ),
            ),
            table(
                f"Saturated by {FLOODING} connections of {flooded.client}",
                ("accepted a second", "not accepted"),
                [(flooded.accepted_per_s, flooded.others)],
            ),
            table(
                "Each process",
                ("process", "CPU ms an image", "MiB before", "MiB after"),
                (
                    (name, ms, found.before_mb[name], found.after_mb[name])
                    for name, ms in found.cpu_ms.items()
                ),
            ),
        ],
        {
            **asdict(found),
            "targets": TARGETS,
        },
    )


if __name__ == "__main__":
    main()
