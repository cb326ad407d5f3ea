"""Fixtures and settings of all tests."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest
import redis

from tests.support.redis_server import RedisServer


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment and turn off Hypothesis' deadline, which a busy machine exceeds.

    Torch uses one thread, in this process and in all programs that a test starts: tiny networks
    gain nothing from more, and threads of one operator wait for each other for long on busy cores.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if shutil.which("nvidia-smi") is None:
        # Run Triton's kernels in its interpreter. Triton reads this when it is first imported.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    # One cache folder of measurements and converted models, for this run only.
    os.environ.setdefault("DARKROOM_WORKER_CACHE", tempfile.mkdtemp(prefix="darkroom-tests-"))
    hypothesis.settings.register_profile("darkroom", deadline=None)
    hypothesis.settings.load_profile("darkroom")
    # Files start in the order below, instead of those with the most tests first.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_unconfigure() -> None:
    folder = os.environ["DARKROOM_WORKER_CACHE"]
    if folder.startswith(os.path.join(tempfile.gettempdir(), "darkroom-tests-")):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter whose text holds its address by its argument, alike in all processes."""
    return argname if " at 0x" in repr(val) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first, so that no test process is left with one of them at the end. Skip
    tests that need a GPU, with the reason, if there is none."""
    early = {item.path for item in items if item.get_closest_marker("early")}
    items.sort(key=lambda item: item.path not in early)  # stable
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Start one real server for the whole run. Tests that stop or kill a server start their own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Empty the database of the shared server and return its address."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def anyio_backend() -> str:
    """Return the event loop implementation of the `async def` tests."""
    return "asyncio"
