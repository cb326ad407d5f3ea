"""Tests of `darkroom worker --devices`: workers are kept running and stopped together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from protocol.connection.redis_client import connect
from protocol.queue.job import JobState
from protocol.queue.job_queue import JobQueue
from protocol.registry.presence import Presence
from protocol.request.request import GenerationRequest
from protocol.settings import Settings
from tests.cli.processes import children, is_alive, wait_until
from tests.support.local_stack import QUICK
from tests.support.redis_server import free_ports_in_a_row
from tests.support.tiny_models import write_tiny_sd

pytestmark = pytest.mark.early

REQUEST = {
    "task": "txt2img", "model": "tiny", "prompt": "a cat", "negative_prompt": "",
    "width": 32, "height": 32, "steps": 2, "sampler": "ddim", "schedule": "leading",
    "guidance_scale": 3.0, "seed": 1, "n": 1, "output_format": "png", "quality": 90,
}  # fmt: skip
ENDLESS = {**REQUEST, "steps": 1000, "width": 128, "height": 128, "n": 8}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")


class RunningPool:
    """A running `darkroom worker --devices` and the Redis it works for."""

    def __init__(self, process: subprocess.Popen[bytes], settings: Settings, size: int) -> None:
        self.process = process
        self.settings = settings
        wait_until(lambda: len(self.serving()) == size, f"{size} workers serve")

    def serving(self) -> set[str]:
        with connect(self.settings.redis_url) as redis:
            return {r.name for r in Presence(redis).workers() if r.state.serves}

    def workers(self) -> list[int]:
        """Return the process ids of the workers and their child processes."""
        return children(self.process.pid)

    def states(self, *job_ids: str) -> list[JobState]:
        with connect(self.settings.redis_url) as redis:
            queue = JobQueue(redis, self.settings)
            return [queue.view(job_id).state for job_id in job_ids]

    def submit(self, request: dict[str, object]) -> str:
        with connect(self.settings.redis_url) as redis:
            queue = JobQueue(redis, self.settings)
            return queue.submit(GenerationRequest.model_validate(request))


def command(size: int) -> list[str]:
    return [sys.executable, "-m", "darkroom", "worker", "--devices", ",".join(size * ["cpu"])]


@contextmanager
def running_pool(
    redis_url: str, model: Path, folder: Path, size: int = 2, **more: str
) -> Iterator[RunningPool]:
    store = (folder / "images").as_uri()
    environment = {
        **os.environ,
        **QUICK,
        "REDIS_URL": redis_url,
        "OBJECT_STORE_URL": store,
        "DARKROOM_MODEL": str(model),
        "DARKROOM_WORKER_CACHE": str(folder / "cache"),
        "DARKROOM_WORKER_METRICS_PORT": "0",
        **more,
    }
    with subprocess.Popen(command(size), env=environment) as process:
        try:
            yield RunningPool(process, Settings(redis_url=redis_url, object_store_url=store), size)
        finally:
            process.kill()


def test_killed_workers_are_restarted_and_sigterm_stops_all(
    redis_url: str, model: Path, tmp_path: Path
) -> None:
    port = free_ports_in_a_row(2)
    with running_pool(redis_url, model, tmp_path, DARKROOM_WORKER_METRICS_PORT=str(port)) as pool:
        for offset in (0, 1):
            answer = httpx.get(f"http://127.0.0.1:{port + offset}/metrics", timeout=60)
            assert "darkroom_worker" in answer.text
        before = pool.serving()
        for pid in pool.workers():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(pool.serving() - before) == 2, "two new workers serve")
        job = pool.submit(REQUEST)
        wait_until(lambda: pool.states(job) == [JobState.FINISHED], "an image is generated")
        workers = pool.workers()
        assert len(workers) == 2
        pool.process.send_signal(signal.SIGTERM)
        assert pool.process.wait() == 0
        assert [pid for pid in workers if is_alive(pid)] == []
        assert pool.serving() <= before  # the killed ones may still be listed


def test_second_sigterm_requeues_the_running_jobs(
    redis_url: str, model: Path, tmp_path: Path
) -> None:
    grace = "3600"
    with running_pool(redis_url, model, tmp_path, DARKROOM_WORKER_SHUTDOWN_GRACE_S=grace) as pool:
        jobs = [pool.submit(ENDLESS) for _ in range(2)]
        wait_until(lambda: set(pool.states(*jobs)) == {JobState.RUNNING}, "both are running")
        pool.process.send_signal(signal.SIGTERM)
        time.sleep(1.0)  # two equal pending signals would count as one
        assert pool.process.poll() is None
        pool.process.send_signal(signal.SIGTERM)
        assert pool.process.wait() == 0
        assert pool.states(*jobs) == [JobState.QUEUED, JobState.QUEUED]


def test_killed_pool_leaves_no_worker(redis_url: str, model: Path, tmp_path: Path) -> None:
    with running_pool(redis_url, model, tmp_path, size=1) as pool:
        workers = pool.workers()
        pool.process.kill()
        for pid in workers:
            wait_until(lambda pid=pid: not is_alive(pid), f"{pid} is gone")  # type: ignore[misc]


def test_worker_that_cannot_start_ends_the_pool(redis_url: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        command(size=2),
        env={
            **os.environ,
            "REDIS_URL": redis_url,
            "OBJECT_STORE_URL": tmp_path.as_uri(),
            "DARKROOM_MODEL": str(tmp_path / "nowhere"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "ended with status 2 before it was ready" in ran.stderr
