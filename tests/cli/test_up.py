"""Tests of `darkroom up` with a real Redis, worker and API and a tiny model of random weights."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from PIL import Image

from tests.cli.processes import children, is_alive, wait_until
from tests.support.local_stack import QUICK
from tests.support.redis_server import RedisServer, free_port
from tests.support.tiny_models import write_tiny_sd

pytestmark = pytest.mark.early

ADDRESS = re.compile(r"Darkroom is ready: (\S+)")
SIDE = 32  # pixels of the tiny model's images


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sd(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def home() -> Iterator[Path]:
    with TemporaryDirectory(prefix="darkroom-test-") as folder:
        yield Path(folder) / "home"


class Up:
    """A running `darkroom up`, its address and its output so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = self._read_until(ADDRESS)

    def _read_until(self, wanted: re.Pattern[str]) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if found := wanted.search(line):
                return found[1]
        raise AssertionError("it ended without being ready:\n" + "".join(self.lines))

    def wait_for(self, wanted: str) -> None:
        self._read_until(re.compile(f"({wanted})"))

    def programs(self) -> list[int]:
        """Return the process ids of Redis, worker, API and their child processes."""
        return children(self.process.pid)

    def end(self) -> str:
        """Read the output to its end; returns all of it."""
        rest, _ = self.process.communicate()
        return "".join(self.lines) + rest


def environment(model: Path, **more: str) -> dict[str, str]:
    settings = {
        "DARKROOM_MODEL": str(model),
        "DARKROOM_DEVICE": "cpu",
        "PORT": "0",
        "HOST": "127.0.0.1",
    }
    return {**os.environ, **QUICK, **settings, **more}


def darkroom(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "darkroom", *arguments]


@contextmanager
def up(home: Path, model: Path, **more: str) -> Iterator[Up]:
    process = subprocess.Popen(
        darkroom("up", "--home", str(home)),
        env=environment(model, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield Up(process)
        finally:
            process.kill()


def generate(url: str, model: Path, output: Path, *options: str) -> None:
    subprocess.run(
        darkroom("generate", "a cat", "-o", str(output), "--url", url, *options),
        env=environment(model),
        check=True,
    )


def test_start_generate_and_ctrl_c(home: Path, model: Path, tmp_path: Path) -> None:
    """With a Redis of the user's own, which replaces the embedded server."""
    with RedisServer() as server, up(home, model, REDIS_URL=server.url) as stack:
        assert httpx.get(f"{stack.url}/healthz", timeout=60).is_success
        assert httpx.get(f"{stack.url}/readyz", timeout=60).is_success
        assert not (home / "redis").exists()

        first, again = tmp_path / "first.png", tmp_path / "again.png"
        for path in (first, again):
            generate(stack.url, model, path, "--steps", "2", "--seed", "7", "--sampler", "ddim")
        with Image.open(first) as image:
            assert image.size == (SIDE, SIDE)
        assert first.read_bytes() == again.read_bytes()

        listed = subprocess.run(
            darkroom("models", "--url", stack.url), capture_output=True, text=True, check=True
        )
        assert "ready" in listed.stdout

        programs = stack.programs()
        assert len(programs) >= 2
        stack.process.send_signal(signal.SIGINT)
        output = stack.end()
    assert stack.process.returncode == 0, output
    assert "Darkroom has stopped." in output
    assert re.search(r"worker │ [\d:.]+ info    job claimed  job=", output)  # text, not JSON
    assert [pid for pid in programs if is_alive(pid)] == []


def test_killed_programs_are_restarted_and_a_killed_stack_leaves_none(
    home: Path, model: Path, tmp_path: Path
) -> None:
    with up(home, model) as stack:
        for pid in stack.programs():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _ready(stack.url), "it is ready again")
        generate(stack.url, model, tmp_path / "after.png", "--steps", "2")
        programs = stack.programs()
        stack.process.kill()
        output = stack.end()
        for pid in programs:
            wait_until(lambda pid=pid: not is_alive(pid), f"{pid} is gone")  # type: ignore[misc]
    assert output.count("was killed by SIGKILL; starting it again") == 3


def test_missing_model_is_an_error(home: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        darkroom("up", "--home", str(home)),
        env=environment(tmp_path / "nowhere"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "nowhere" in ran.stderr, ran.stdout


def test_generate_starts_a_temporary_stack(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "cat.webp"
    subprocess.run(
        darkroom("generate", "a cat", "-o", str(output), "--steps", "2"),
        env=environment(model, PORT=str(free_port())),
        check=True,
    )
    with Image.open(output) as image:
        assert (image.format, image.size) == ("WEBP", (SIDE, SIDE))


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=60).is_success
    except httpx.TransportError:
        return False
