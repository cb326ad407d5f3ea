"""Cost of a job and of a worker for a Redis server, measured on a real server.

The cost is CPU time of the server's main thread, which runs all commands one after another (`INFO
cpu`), so it bounds the number of jobs and workers. `INFO commandstats` lists the commands; it
counts the commands that a script calls in addition to the script, so its times must not be added.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from bench.common.null_worker import CARD
from darkroom.processes.process import this_python
from protocol.connection.redis_client import connect
from protocol.queue.job import TERMINAL
from protocol.queue.job_queue import JobQueue
from protocol.registry.presence import Presence
from protocol.request.request import GenerationRequest
from protocol.settings import Settings
from tests.support.redis_server import RedisServer

STEP_S = 0.05
LONG = 900  # steps of a job that runs longer than the measurement
SHOWN = 8  # commands
POLL_S = 0.005
WITHOUT_BOUND = 1_000_000


@dataclass(frozen=True)
class RedisCost:
    """CPU seconds of the server's main thread: of a job from submission to reading its result, and
    per second of an idle and of a busy worker; and the calls of each command per job."""

    job_s: float
    idle_worker: float
    busy_worker: float
    calls_per_job: dict[str, float]

    def busy_share(self, workers: int, jobs_per_s: float) -> float:
        """Return the share of the server's time that `workers` busy workers take which finish
        `jobs_per_s` jobs a second in total."""
        return workers * self.busy_worker + jobs_per_s * self.job_s

    def most_workers(self, jobs_per_worker_s: float) -> int:
        """Return the number of workers that one server supports, each with that rate of jobs."""
        return int(1 / (self.busy_worker + jobs_per_worker_s * self.job_s))


def measure(jobs: int, seconds: float) -> RedisCost:
    """Measure an idle worker, then a worker with long jobs, each for `seconds`; then the cost of
    `jobs` short jobs that are submitted one after the other."""
    with RedisServer() as server, tempfile.TemporaryDirectory() as store:
        settings = Settings(
            redis_url=server.url,
            object_store_url=Path(store).as_uri(),
            max_queue_length=WITHOUT_BOUND,
            max_queue_per_client=WITHOUT_BOUND,
        )
        with connect(server.url) as redis:
            queue = JobQueue(redis, settings)
            with _worker("bench.simulation.paced_worker", str(STEP_S), settings=settings):
                _wait_for_worker(redis)
                idle = _rate_over(redis, seconds)
                for _ in range(8):
                    queue.submit(_request(LONG))
                time.sleep(1.0)
                busy = _rate_over(redis, seconds)
        with connect(server.url) as redis:
            redis.flushall()
            queue = JobQueue(redis, settings)
            with _worker("bench.common.null_worker", settings=settings):
                _wait_for_worker(redis)
                return _cost_of_jobs(redis, queue, jobs, idle, busy)


def _cost_of_jobs(redis: Redis, queue: JobQueue, jobs: int, idle: float, busy: float) -> RedisCost:
    redis.config_resetstat()
    started, before = time.perf_counter(), _main_thread_s(redis)
    ids = [queue.submit(_request(20)) for _ in range(jobs)]
    while queue.view(ids[-1]).state not in TERMINAL:
        time.sleep(POLL_S)
    for job_id in ids:
        queue.view(job_id)
    seconds = time.perf_counter() - started
    spent = _main_thread_s(redis) - before - busy * seconds
    calls = {
        name.removeprefix("cmdstat_"): figures["calls"] / jobs
        for name, figures in redis.info("commandstats").items()
    }
    most = sorted(calls.items(), key=lambda item: -item[1])[:SHOWN]
    return RedisCost(max(spent, 0.0) / jobs, idle, busy, dict(most))


def _rate_over(redis: Redis, seconds: float) -> float:
    """Measure the busy share of the main thread's time for `seconds` from now."""
    before = _main_thread_s(redis)
    time.sleep(seconds)
    return (_main_thread_s(redis) - before) / seconds


def _main_thread_s(redis: Redis) -> float:
    cpu: dict[str, Any] = redis.info("cpu")
    return float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"])


@contextmanager
def _worker(*module: str, settings: Settings) -> Iterator[None]:
    environment = {
        **os.environ,
        "REDIS_URL": settings.redis_url,
        "OBJECT_STORE_URL": settings.object_store_url,
        "DARKROOM_WORKER_METRICS_PORT": "0",
    }
    process = subprocess.Popen(
        this_python(*module), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for_worker(redis: Redis) -> None:
    while not any(report.state.serves for report in Presence(redis).workers()):
        time.sleep(POLL_S)


def _request(steps: int) -> GenerationRequest:
    return GenerationRequest.model_validate(
        {
            "task": "txt2img",
            "model": CARD.name,
            "prompt": "a small red house by the sea",
            "negative_prompt": "",
            "width": CARD.default_width,
            "height": CARD.default_height,
            "steps": steps,
            "sampler": CARD.default_sampler,
            "schedule": CARD.default_schedule,
            "guidance_scale": 7.5,
            "seed": 1,
            "n": 1,
            "output_format": "png",
            "quality": 90,
        }
    )
