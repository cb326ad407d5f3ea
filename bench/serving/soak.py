"""Memory of every program during many short jobs of every kind, to find leaks.

    python -m bench soak [--jobs 10000]

A tiny model runs behind real HTTP, queue and store. The jobs have every task, sampler and file
format, and the clients wait, poll, cancel or send invalid requests. Memory is the resident memory
of a process; the slope is that of a straight line through the samples after a warm-up. Jobs are
kept for one minute only, so that Redis holds as many at the end as in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import uvloop

from bench.common.client import Connection
from bench.common.drive import MIX, PROMPTS, JobKind, mask_image, photo
from bench.common.report import arguments, publish, table
from bench.common.stack import benchmark_stack
from bench.common.workloads import TINY, folder
from bench.serving.flood import ASYNC
from darkroom.processes.process import this_python

CLIENTS = 16
SAMPLE_S = 1.0
WARM_UP = 0.4  # share of the run in which caches fill and the first jobs have not yet expired
FORMATS = ("png", "jpeg", "webp")
KEEP_S = 60
POLL_S = 0.02
ENDED = {"finished", "failed", "cancelled"}
ENVIRONMENT = {
    "DARKROOM_RESULT_TTL_S": str(KEEP_S),
    "DARKROOM_FAILURE_TTL_S": str(KEEP_S),
    "DARKROOM_MAX_QUEUE_PER_CLIENT": "256",
    # Such a small model gains nothing from more threads, and threads of one operator wait for each
    # other for long when the machine is busy.
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Sample:
    """Number of finished jobs, and each program's memory in MiB."""

    jobs: int
    memory_mb: dict[str, float]


@dataclass(frozen=True)
class Trend:
    """A program's memory after the warm-up; the slope is in MiB for a thousand jobs."""

    program: str
    begin_mb: float
    end_mb: float
    most_mb: float
    mb_per_1000_jobs: float


class Mix:
    """Sender of jobs of all kinds that counts their outcomes."""

    def __init__(self, jobs: int) -> None:
        self._numbers = iter(range(jobs))
        self.outcomes: Counter[str] = Counter()
        self._image = base64.b64encode(photo(TINY.side)).decode()
        self._mask = base64.b64encode(mask_image(TINY.side)).decode()

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    async def client(self, url: str) -> None:
        async with Connection(url) as connection:
            for number in self._numbers:
                self.outcomes[await self._one(connection, number)] += 1

    async def _one(self, connection: Connection, number: int) -> str:
        kind = MIX[number % len(MIX)]
        path, body = f"/v1/{kind.task.value}", self._body(kind, number)
        match number % 10:
            case 0:
                return f"refused {(await connection.post(path, body | {'steps': 0})).status}"
            case 1 | 2 | 3:
                job = (await connection.post(path, body, ASYNC)).expect(202).json()["id"]
                if number % 10 == 1:
                    await connection.send(
                        f"DELETE /v1/jobs/{job} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                    )
                return await self._poll(connection, job)
            case _:
                (await connection.post(path, body)).expect(200)
                return "finished"

    async def _poll(self, connection: Connection, job: str) -> str:
        while True:
            state: str = (await connection.get(f"/v1/jobs/{job}")).expect(200).json()["state"]
            if state in ENDED:
                return state
            await asyncio.sleep(POLL_S)

    def _body(self, kind: JobKind, number: int) -> dict[str, object]:
        body: dict[str, object] = {
            "prompt": f"{PROMPTS[number % len(PROMPTS)]} {number % 101}",
            "seed": number,
            "sampler": kind.sampler,
            "steps": max(2, round(kind.steps * TINY.steps)),
            "guidance_scale": 4.0 if number % 3 else 1.0,
            "output_format": FORMATS[number % len(FORMATS)],
        }
        if kind.task.takes_image:
            body |= {"image": self._image, "strength": 0.9}
        if kind.task.takes_mask:
            body["mask"] = self._mask
        return body


async def soak(jobs: int) -> tuple[list[Sample], Counter[str], float]:
    """Run the jobs; returns the samples, the outcomes of the jobs, and the seconds."""
    environment = {**ENVIRONMENT, "DARKROOM_MODEL": str(folder(TINY).resolve())}
    mix = Mix(jobs)
    async with benchmark_stack(this_python("darkroom", "worker"), environment) as stack:
        started = time.perf_counter()
        clients = asyncio.gather(*(mix.client(stack.url) for _ in range(CLIENTS)))
        samples = []
        while not clients.done():
            samples.append(Sample(mix.done, stack.memory_mb()))
            await asyncio.wait([clients], timeout=SAMPLE_S)
        await clients  # raises the errors of the clients
        seconds = time.perf_counter() - started
        samples.append(Sample(mix.done, stack.memory_mb()))
    return samples, mix.outcomes, seconds


def trends(samples: list[Sample]) -> Iterator[Trend]:
    """Yield the trend of each program's memory after the warm-up."""
    most = samples[-1].jobs
    steady = [sample for sample in samples if sample.jobs >= WARM_UP * most]
    for program in samples[-1].memory_mb:
        sizes = [sample.memory_mb[program] for sample in steady]
        slope = 0.0
        if len(steady) > 1:
            slope = statistics.linear_regression([s.jobs for s in steady], sizes).slope
        yield Trend(program, sizes[0], sizes[-1], max(sizes), 1000 * slope)


def options() -> argparse.ArgumentParser:
    parser = arguments("soak", __doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    return parser


def main() -> None:
    given = options().parse_args()
    jobs = 60 if given.smoke else given.jobs
    samples, outcomes, seconds = uvloop.run(soak(jobs))
    found = [asdict(trend) for trend in trends(samples)]
    publish(
        "soak",
        given,
        "cpu",
        [
            table(
                f"{jobs} jobs in {seconds:.0f} s: "
                + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()),
                ("program", "MiB after warm-up", "at the end", "most", "MiB for 1000 jobs"),
                (row.values() for row in found),
            )
        ],
        {
            "jobs": jobs, "seconds": seconds, "clients": CLIENTS, "outcomes": outcomes,
            "warm_up": WARM_UP, "kept_s": KEEP_S, "trends": found,
            "samples": [asdict(sample) for sample in samples],
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
