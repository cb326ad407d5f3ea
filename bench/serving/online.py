"""Poisson arrivals over real HTTP and Redis, with every batching policy.

    python -m bench online [--workload bundled128|sd15|sdxl] [--seconds 20]
                           [--loads 0.3 0.6 0.8 1 1.2]

Serial, request-level and step-level batching serve the same arrivals with the same weights. The
first request-level policy is MLPerf's rule, a full batch or a time-out of one and a half batches;
the other never waits for more requests. The load is a share of the capacity, which is the rate of
step-level batching with busy clients. A request counts as good if its latency is at most three
times the latency alone. Latency counts from the time a request was due, so a delay of the client
is included.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass

import uvloop

from bench.common.client import Connection
from bench.common.drive import MIX, PROMPTS
from bench.common.report import arguments, publish, table
from bench.common.stack import benchmark_stack
from bench.common.workloads import BUNDLED_EMOJI, WORKLOADS, Workload, folder
from bench.serving.flood import PATH
from bench.serving.policies import REQUEST_LEVEL, SERIAL, STEP_LEVEL
from darkroom.processes.process import this_python
from models.loading.loader import default_device
from protocol.request.request import Task

NO_WAIT = f"{REQUEST_LEVEL}, no wait"
# Name, policy, and time-out in times of a full batch.
POLICIES = (
    (SERIAL, SERIAL, 0.0),
    (REQUEST_LEVEL, REQUEST_LEVEL, 1.5),
    (NO_WAIT, REQUEST_LEVEL, 0.0),
    (STEP_LEVEL, STEP_LEVEL, 0.0),
)
KINDS = [kind for kind in MIX if kind.task is Task.TXT2IMG]
LOADS = (0.3, 0.6, 0.8, 1.0, 1.2)
SLO = 3.0  # times the latency of a request alone
ALONE_REQUESTS = 8  # to measure the latency alone
CLIENTS_PER_SLOT = 2.0  # to measure the capacity


@dataclass(frozen=True)
class Served:
    """A request: seconds from its due time to its end, and seconds in the queue."""

    status: int
    latency_s: float
    queued_s: float = 0.0


@dataclass(frozen=True)
class Point:
    """Results of a policy at one load; times are in seconds, rates in requests a second."""

    policy: str
    load: float
    offered_per_s: float
    requests: int
    refused: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    mean_queued_s: float
    mean_service_s: float
    done_per_s: float
    good_per_s: float
    good_share: float


class Client:
    """A client with as many connections as it has concurrent requests; it reuses them."""

    def __init__(self, url: str, workload: Workload, stack: AsyncExitStack) -> None:
        self._url = url
        self._workload = workload
        self._stack = stack
        self._free: list[Connection] = []

    async def request(self, number: int, due: float) -> Served:
        """Send request `number`, due at the time `due` of `time.perf_counter`."""
        connection = self._free.pop() if self._free else await self._connect()
        response = await connection.post(PATH, self._body(number))
        latency = time.perf_counter() - due
        self._free.append(connection)
        if response.status != 200:
            return Served(response.status, latency)
        return Served(200, latency, response.json()["timings"]["queued"])

    async def _connect(self) -> Connection:
        return await self._stack.enter_async_context(Connection(self._url))

    def _body(self, number: int) -> dict[str, object]:
        kind = KINDS[number % len(KINDS)]
        return {
            "prompt": PROMPTS[number % len(PROMPTS)],
            "seed": number,
            "sampler": kind.sampler,
            "schedule": self._workload.schedule,
            "steps": max(2, round(kind.steps * self._workload.steps)),
            "guidance_scale": self._workload.guidance_scale,
            "response": "url",
        }


async def latency_alone(client: Client) -> float:
    """Return the median seconds of requests that are sent one at a time."""
    numbers = range(ALONE_REQUESTS)
    served = [await client.request(number, time.perf_counter()) for number in numbers]
    return statistics.median(one.latency_s for one in served)


async def capacity(client: Client, clients: int, seconds: float) -> float:
    """Return the requests a second of `clients` clients that each have one request in flight."""
    numbers = itertools.count()
    ends = time.perf_counter() + seconds
    done = 0

    async def busy() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await client.request(next(numbers), time.perf_counter())
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(busy() for _ in range(clients)))
    return done / (time.perf_counter() - started)


def arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Yield Poisson arrivals, the same for every policy, in seconds from the start."""
    rng = random.Random(1)
    at = rng.expovariate(rate)
    while at < seconds:
        yield at
        at += rng.expovariate(rate)


async def open_loop(client: Client, rate: float, seconds: float) -> tuple[list[Served], float]:
    """Send the arrivals of `seconds`; returns all requests and the seconds until the last ended."""
    started = time.perf_counter()
    in_flight = []
    for number, at in enumerate(arrivals(rate, seconds)):
        await asyncio.sleep(started + at - time.perf_counter())
        in_flight.append(asyncio.create_task(client.request(number, started + at)))
    served = list(await asyncio.gather(*in_flight))
    return served, time.perf_counter() - started


def summarised(
    policy: str, load: float, rate: float, served: list[Served], seconds: float, slo_s: float
) -> Point:
    done = [one for one in served if one.status == 200]
    latencies = sorted(one.latency_s for one in done)
    good = sum(latency <= slo_s for latency in latencies)
    queued = statistics.fmean(one.queued_s for one in done)
    mean = statistics.fmean(latencies)
    p50, p95, p99 = (latencies[int(q * (len(latencies) - 1))] for q in (0.5, 0.95, 0.99))
    return Point(
        policy=policy,
        load=load,
        offered_per_s=rate,
        requests=len(served),
        refused=len(served) - len(done),
        mean_s=mean,
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        mean_queued_s=queued,
        mean_service_s=mean - queued,
        done_per_s=len(done) / seconds,
        good_per_s=good / seconds,
        good_share=good / len(served),
    )


@asynccontextmanager
async def serving(
    policy: str, workload: Workload, slots: int, timeout_s: float
) -> AsyncIterator[Client]:
    """Start a service with a policy, warm it up and yield its client."""
    environment = {
        "DARKROOM_MODEL": str(folder(workload).resolve()),
        "DARKROOM_WORKER_SLOTS": str(slots),
        "DARKROOM_MAX_QUEUE_LENGTH": "100000",
        "DARKROOM_MAX_QUEUE_PER_CLIENT": "100000",
    }
    worker = this_python("bench.serving.policy_worker", policy, str(timeout_s))
    async with benchmark_stack(worker, environment) as running, AsyncExitStack() as stack:
        client = Client(running.url, workload, stack)
        await asyncio.gather(*(client.request(n, time.perf_counter()) for n in range(2 * slots)))
        yield client


async def compare(
    workload: Workload, slots: int, loads: Iterable[float], seconds: float, names: Collection[str]
) -> tuple[float, float, list[Point]]:
    """Return the latency alone, the capacity, and every policy of `names` at every load."""
    async with serving(STEP_LEVEL, workload, slots, 0.0) as client:
        alone_s = await latency_alone(client)
        most = await capacity(client, round(CLIENTS_PER_SLOT * slots), seconds)
    points = []
    for name, policy, batches in POLICIES:
        if name not in names:
            continue
        async with serving(policy, workload, slots, batches * slots / most) as client:
            for load in loads:
                served, taken = await open_loop(client, load * most, seconds)
                points.append(summarised(name, load, load * most, served, taken, SLO * alone_s))
    return alone_s, most, points


def options() -> argparse.ArgumentParser:
    parser = arguments("online", __doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default=BUNDLED_EMOJI.name)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="duration of the arrivals for each point"
    )
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    names = [name for name, *_ in POLICIES]
    parser.add_argument("--policies", nargs="+", choices=names, default=names)
    return parser


def main() -> None:
    given = options().parse_args()
    workload, loads, seconds = WORKLOADS[given.workload], given.loads, given.seconds
    if given.smoke:
        workload, loads, seconds = workload.smaller(), [0.8], 1.0
    alone_s, most, points = uvloop.run(
        compare(workload, given.slots, loads, seconds, given.policies)
    )
    columns = {
        "policy": "policy", "load": "load", "offered_per_s": "offered/s", "mean_s": "mean s",
        "p50_s": "p50", "p95_s": "p95", "p99_s": "p99", "mean_queued_s": "in queue",
        "mean_service_s": "served", "good_per_s": "good/s", "good_share": "good",
    }  # fmt: skip
    publish(
        f"online-{workload.name}",
        given,
        str(default_device()),
        [
            table(
                f"{workload.name} {workload.side}², around {workload.steps} steps, capacity "
                f"{most:.2f}/s, alone {alone_s:.3f} s, good within {SLO * alone_s:.3f} s",
                columns.values(),
                ([asdict(point)[column] for column in columns] for point in points),
            )
        ],
        {
            "workload": workload.name, "side": workload.side, "steps": workload.steps,
            "slots": given.slots, "seconds": seconds, "lone_s": alone_s, "capacity_per_s": most,
            "slo_s": SLO * alone_s,
            "request_level_patience_s": 1.5 * given.slots / most,
            "points": [asdict(point) for point in points],
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
