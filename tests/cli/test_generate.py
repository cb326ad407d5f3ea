"""Tests of `darkroom generate`: it cancels its job when stopped, and prints the server's error."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from models.text.tokenizer import Tokenizer
from protocol.connection.redis_client import connect
from protocol.queue.job_queue import JobQueue
from protocol.registry.model_registry import ModelRegistry
from protocol.request.model_card import ModelCard
from protocol.settings import Settings
from tests.cli.processes import wait_until
from tests.support.forked_program import ForkedProgram
from tests.support.redis_server import free_port
from tests.support.tiny_models import write_tiny_sd

CARD = ModelCard(
    name="tiny",
    family="sd1",
    default_width=32,
    default_height=32,
    min_side=8,
    max_side=64,
    max_pixels=64 * 64,
    samplers=("ddim",),
    schedules=("leading",),
    default_sampler="ddim",
    default_schedule="leading",
)


@pytest.fixture
def api_without_workers(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """Start an API that accepts jobs for a model that no worker serves."""
    with connect(redis_url) as redis:
        tokenizer = Tokenizer.from_folder(write_tiny_sd(tmp_path / "tiny") / "tokenizer")
        ModelRegistry(redis).publish(CARD, tokenizer.to_json())
    port = free_port()
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "OBJECT_STORE_URL": (tmp_path / "images").as_uri(),
        "PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    with ForkedProgram("service", environment=environment) as api:
        try:
            wait_until(lambda: answers(url), "the API answers")
            yield url
        finally:
            api.kill()


def test_interrupted_generate_cancels_its_job(
    api_without_workers: str, redis_url: str, tmp_path: Path
) -> None:
    output = tmp_path / "never.png"
    command = [sys.executable, "-m", "darkroom", "generate", "a cat", "-o", str(output)]
    with connect(redis_url) as redis:
        queue = JobQueue(redis, Settings(redis_url=redis_url))
        with running([*command, "--url", api_without_workers], dict(os.environ)) as generate:
            wait_until(lambda: queue.depth("tiny") == 1, "its job is queued")
            generate.send_signal(signal.SIGINT)
            assert generate.wait() == 130
        # No worker runs, so only a cancellation removes a job from the queue.
        assert queue.depth("tiny") == 0
    assert not output.exists()


def test_validation_error_of_the_server_is_printed(api_without_workers: str) -> None:
    command = [sys.executable, "-m", "darkroom", "generate", "a cat", "--url", api_without_workers]
    ran = subprocess.run([*command, "--size", "12x32"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr == "darkroom: width is 12, but must be a multiple of 8\n"


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).is_success
    except httpx.TransportError:
        return False
