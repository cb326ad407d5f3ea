"""Fixtures every test may ask for."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest
import redis

from tests.support.redis_server import RedisServer


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis without its deadline: on a busy machine slow is not wrong.

    One thread for torch, here and in every program that a test starts: networks of tests gain
    nothing from more, and threads of one operator wait for each other long when all cores are busy.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if shutil.which("nvidia-smi") is None:
        # Triton's kernels run in its interpreter; read when Triton is imported, by whomever.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    # One folder for what workers measure and convert, for this run only.
    os.environ.setdefault("DARKROOM_WORKER_CACHE", tempfile.mkdtemp(prefix="darkroom-tests-"))
    hypothesis.settings.register_profile("darkroom", deadline=None)
    hypothesis.settings.load_profile("darkroom")
    # Files are begun in the order below, and not those of the most tests first.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_unconfigure() -> None:
    folder = os.environ["DARKROOM_WORKER_CACHE"]
    if folder.startswith(os.path.join(tempfile.gettempdir(), "darkroom-tests-")):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a GPU is skipped, saying so, where there is none. Files that take long are begun
    first, so that no process has one of them left when all others are done."""
    early = {item.path for item in items if item.get_closest_marker("early")}
    items.sort(key=lambda item: item.path not in early)  # stable
    needy = [item for item in items if item.get_closest_marker("gpu")]
    if not needy:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needy:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real server for the whole run. A test that stops or kills one starts its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Address of an empty database of the shared server."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def anyio_backend() -> str:
    """What runs the `async def` tests."""
    return "asyncio"
