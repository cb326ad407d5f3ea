"""What the service adds to a model: HTTP, queue, PNG, store, with a model that costs nothing.

    python -m bench overhead [--seconds 5]

Redis, API and worker are the real programs (`bench.common.null_worker` draws nothing), and the
client
shares the cores with them. Measured are the time that a lone client, and two, wait for a picture in
base64; how many requests are accepted a second when a crowd asks for no more than an id; how long a
look at a job takes while two hundred clients wait for theirs; and what memory the API takes. How
fast the machine is just then, the time of an answer says that takes no work, and what milliseconds
of a core each process spends on a picture.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import uvloop

from bench.common.client import Connection
from bench.common.report import arguments, publish, table
from bench.common.stack import Premises, premises
from bench.serving.flood import ASYNC, PATH, Flood, flood
from darkroom.processes.process import this_python

WORKER = this_python("bench.common.null_worker")
BODY = {"prompt": "a small red house by the sea", "steps": 20}
WAITING_CLIENTS = 200
FLOODING = 32  # connections
NO_BOUND = {"DARKROOM_MAX_QUEUE_LENGTH": "1000000", "DARKROOM_MAX_QUEUE_PER_CLIENT": "1000000"}
TARGETS = {"added_p50_ms": 5.0, "accepted_per_s": 500.0, "api_mb": 120.0}


@dataclass(frozen=True)
class Latency:
    """Milliseconds."""

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
    """Seconds of every `ask`, of `clients` that each ask again at once, for `seconds`."""
    taken: list[float] = []
    ends = time.perf_counter() + seconds

    async def client() -> None:
        async with Connection(url) as connection:
            while (started := time.perf_counter()) < ends:
                await ask(connection)
                taken.append(time.perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(clients)))
    return taken


async def picture(connection: Connection) -> None:
    (await connection.post(PATH, BODY)).expect(200)


async def bare_answer(connection: Connection) -> None:
    (await connection.get("/healthz")).expect(200)


async def polls_among_waiting(house: Premises, clients: int, seconds: float) -> Latency:
    """Looks at a job, by one who asks again at once, while `clients` wait for pictures.

    The worker is stopped meanwhile, as if its step took long, so that nobody gets any.
    """
    house.worker.suspend()
    waiting = [asyncio.create_task(timed(house.url, 1, 0.001, picture)) for _ in range(clients)]
    async with Connection(house.url) as connection:
        job = (await connection.post(PATH, BODY, ASYNC)).expect(202).json()["id"]
    await asyncio.sleep(1)  # until all of them wait

    async def look(connection: Connection) -> None:
        (await connection.get(f"/v1/jobs/{job}")).expect(200)

    looks = await timed(house.url, 1, seconds, look)
    house.worker.resume()
    await asyncio.gather(*waiting)
    return Latency.of(f"a look at a job, {clients} waiting", looks)


@dataclass(frozen=True)
class Findings:
    """Everything measured; `cpu_ms` is for one picture, memory in MiB of each process."""

    latencies: list[Latency]
    flooded: Flood
    cpu_ms: dict[str, float]
    before_mb: dict[str, float]
    after_mb: dict[str, float]


async def measure(seconds: float, clients: int) -> Findings:
    async with premises(WORKER, NO_BOUND) as house:
        await timed(house.url, 1, min(1.0, seconds), picture)  # warm
        before_mb = house.memory_mb()
        bare = await timed(house.url, 1, min(1.0, seconds), bare_answer)
        before_s = house.cpu_s()
        alone = await timed(house.url, 1, seconds, picture)
        cpu_ms = {
            name: 1000 * (after - before_s[name]) / len(alone)
            for name, after in house.cpu_s().items()
        }
        pair = await timed(house.url, 2, seconds, picture)
        polls = await polls_among_waiting(house, clients, seconds)
        flooded = await flood(house.url, BODY, FLOODING, seconds)
        latencies = [
            Latency.of("nothing but an answer, 1 client", bare),
            Latency.of("a picture, 1 client", alone),
            Latency.of("a picture, 2 clients", pair),
            polls,
        ]
        return Findings(latencies, flooded, cpu_ms, before_mb, house.memory_mb())


def options() -> argparse.ArgumentParser:
    parser = arguments("overhead", __doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--clients", type=int, default=WAITING_CLIENTS, help="that wait")
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
                "With a model that costs nothing",
                ("what", "samples", "p50 ms", "p95 ms", "p99 ms"),
                (asdict(latency).values() for latency in found.latencies),
            ),
            table(
                f"Saturated by {FLOODING} connections of {flooded.client}",
                ("accepted a second", "not accepted"),
                [(flooded.accepted_per_s, flooded.others)],
            ),
            table(
                "Of each process",
                ("process", "ms of a core a picture", "MiB before", "MiB after"),
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
