"""Requests that come when they come: Poisson arrivals over real HTTP and Redis, every policy.

    python -m bench online [--workload bundled|sd15|sdxl] [--seconds 20] [--loads 0.3 0.6 0.8 1 1.2]

Serial, request-level and step-level batching serve the same arrivals with the same weights. The
first request-level policy is MLPerf's rule, size or a time-out of one and a half batches; the other
never waits for company. The load is a share of the capacity, which is what step-level batching does
when clients never let it wait; a request counts as good if it took no longer than three times what
a lone one takes. Latency counts from the moment a request was due, so a late client hides nothing.
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
from bench.common.stack import premises
from bench.common.workloads import BUNDLED_EMOJI, WORKLOADS, Workload, folder
from bench.serving.flood import PATH
from bench.serving.policies import REQUEST_LEVEL, SERIAL, STEP_LEVEL
from darkroom.processes.process import this_python
from models.loading.loader import default_device
from protocol.request.request import Task

NO_WAIT = f"{REQUEST_LEVEL}, no wait"
# What each is called, its policy, and its time-out in times of a full batch.
POLICIES = (
    (SERIAL, SERIAL, 0.0),
    (REQUEST_LEVEL, REQUEST_LEVEL, 1.5),
    (NO_WAIT, REQUEST_LEVEL, 0.0),
    (STEP_LEVEL, STEP_LEVEL, 0.0),
)
KINDS = [kind for kind in MIX if kind.task is Task.TXT2IMG]
LOADS = (0.3, 0.6, 0.8, 1.0, 1.2)
SLO = 3.0  # times the latency of a lone request
LONE = 8  # requests that find out what that is
CROWD = 2.0  # clients for each slot, when capacity is measured


@dataclass(frozen=True)
class Served:
    """One request: seconds from when it was due to its end, and those of them before its start."""

    status: int
    latency_s: float
    queued_s: float = 0.0


@dataclass(frozen=True)
class Point:
    """What a policy did at one load. Times in seconds, rates in requests a second."""

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
    """Asks for pictures over as many connections as are needed at once, and reuses them."""

    def __init__(self, url: str, workload: Workload, stack: AsyncExitStack) -> None:
        self._url = url
        self._workload = workload
        self._stack = stack
        self._free: list[Connection] = []

    async def ask(self, number: int, due: float) -> Served:
        """Request `number`, which was due at `due` on the clock of `time.perf_counter`."""
        connection = self._free.pop() if self._free else await self._connect()
        answer = await connection.post(PATH, self._body(number))
        latency = time.perf_counter() - due
        self._free.append(connection)
        if answer.status != 200:
            return Served(answer.status, latency)
        return Served(200, latency, answer.json()["timings"]["queued"])

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


async def lone_latency(client: Client) -> float:
    """Median seconds of requests that have the service to themselves."""
    served = [await client.ask(number, time.perf_counter()) for number in range(LONE)]
    return statistics.median(one.latency_s for one in served)


async def capacity(client: Client, clients: int, seconds: float) -> float:
    """Requests a second while `clients` each have one under way."""
    numbers = itertools.count()
    ends = time.perf_counter() + seconds
    done = 0

    async def busy() -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await client.ask(next(numbers), time.perf_counter())
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(busy() for _ in range(clients)))
    return done / (time.perf_counter() - started)


def arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Poisson arrivals, the same for every policy: seconds from the start."""
    dice = random.Random(1)
    moment = dice.expovariate(rate)
    while moment < seconds:
        yield moment
        moment += dice.expovariate(rate)


async def open_loop(client: Client, rate: float, seconds: float) -> tuple[list[Served], float]:
    """Serve the arrivals of `seconds`; all of them, and the seconds until the last was done."""
    started = time.perf_counter()
    under_way = []
    for number, moment in enumerate(arrivals(rate, seconds)):
        await asyncio.sleep(started + moment - time.perf_counter())
        under_way.append(asyncio.create_task(client.ask(number, started + moment)))
    served = list(await asyncio.gather(*under_way))
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
    policy: str, workload: Workload, slots: int, patience_s: float
) -> AsyncIterator[Client]:
    """A service with that policy, and its client; it has drawn already."""
    environment = {
        "DARKROOM_MODEL": str(folder(workload).resolve()),
        "DARKROOM_WORKER_SLOTS": str(slots),
        "DARKROOM_MAX_QUEUE_LENGTH": "100000",
        "DARKROOM_MAX_QUEUE_PER_CLIENT": "100000",
    }
    worker = this_python("bench.serving.policy_worker", policy, str(patience_s))
    async with premises(worker, environment) as house, AsyncExitStack() as stack:
        client = Client(house.url, workload, stack)
        await asyncio.gather(*(client.ask(n, time.perf_counter()) for n in range(2 * slots)))
        yield client


async def compare(
    workload: Workload, slots: int, loads: Iterable[float], seconds: float, names: Collection[str]
) -> tuple[float, float, list[Point]]:
    """The lone latency, the capacity, and every policy of `names` at every load."""
    async with serving(STEP_LEVEL, workload, slots, 0.0) as client:
        lone_s = await lone_latency(client)
        most = await capacity(client, round(CROWD * slots), seconds)
    points = []
    for name, policy, batches in POLICIES:
        if name not in names:
            continue
        async with serving(policy, workload, slots, batches * slots / most) as client:
            for load in loads:
                served, taken = await open_loop(client, load * most, seconds)
                points.append(summarised(name, load, load * most, served, taken, SLO * lone_s))
    return lone_s, most, points


def options() -> argparse.ArgumentParser:
    parser = arguments("online", __doc__)
    parser.add_argument("--workload", choices=WORKLOADS, default=BUNDLED_EMOJI.name)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of arrivals, for each point")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    names = [name for name, *_ in POLICIES]
    parser.add_argument("--policies", nargs="+", choices=names, default=names)
    return parser


def main() -> None:
    given = options().parse_args()
    workload, loads, seconds = WORKLOADS[given.workload], given.loads, given.seconds
    if given.smoke:
        workload, loads, seconds = workload.smaller(), [0.8], 1.0
    lone_s, most, points = uvloop.run(
        compare(workload, given.slots, loads, seconds, given.policies)
    )
    columns = {
        "policy": "policy", "load": "load", "offered_per_s": "offered/s", "mean_s": "mean s",
        "p50_s": "p50", "p95_s": "p95", "p99_s": "p99", "mean_queued_s": "in queue",
        "mean_service_s": "served", "good_per_s": "good/s", "good_share": "good",
    }  # fmt: skip
    publish(
        "online" if workload.name == "bundled" else f"online-{workload.name}",
        given,
        str(default_device()),
        [
            table(
                f"{workload.name} {workload.side}², around {workload.steps} steps, capacity "
                f"{most:.2f}/s, alone {lone_s:.3f} s, good within {SLO * lone_s:.3f} s",
                columns.values(),
                ([asdict(point)[column] for column in columns] for point in points),
            )
        ],
        {
            "workload": workload.name, "side": workload.side, "steps": workload.steps,
            "slots": given.slots, "seconds": seconds, "lone_s": lone_s, "capacity_per_s": most,
            "slo_s": SLO * lone_s,
            "request_level_patience_s": 1.5 * given.slots / most,
            "points": [asdict(point) for point in points],
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
