"""Fixtures and settings of all tests."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator

import hypothesis
import pytest
import redis
from xdist.remote import Producer

from darkroom.lasting_imports import lasting_imports
from tests.support.file_schedule import (
    FileSchedule,
    files_from_own_start,
    in_order,
    process_count,
)
from tests.support.redis_server import RedisServer
from tests.support.trusted_authority import trust_one_authority

# Of a property that sets no number of its own.
SOME_EXAMPLES, ALL_EXAMPLES = 25, 100


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment and turn off Hypothesis' deadline, which a busy machine exceeds.

    Torch uses one thread, in this process and in all programs that a test starts: tiny networks
    gain nothing from more, and threads of one operator wait for each other for long on busy cores.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    trust_one_authority()
    if shutil.which("nvidia-smi") is None:
        # Run Triton's kernels in its interpreter. Triton reads this when it is first imported.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    # One cache folder of measurements and converted models, for this run only.
    os.environ.setdefault("DARKROOM_WORKER_CACHE", tempfile.mkdtemp(prefix="darkroom-tests-"))
    # `-m ""` selects the long tests too, as in `make test-all`.
    examples = SOME_EXAMPLES if config.option.markexpr else ALL_EXAMPLES
    hypothesis.settings.register_profile("darkroom", deadline=None, max_examples=examples)
    hypothesis.settings.load_profile("darkroom")
    # Files start in the order below, instead of those with the most tests first.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if "PYTEST_XDIST_WORKER" in os.environ and config.args == config.getini("testpaths"):
        count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        config.args = files_from_own_start(config.args, os.environ["PYTEST_XDIST_WORKER"], count)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return process_count()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileSchedule | None:
    return FileSchedule(config, log) if config.option.dist == "loadfile" else None


def pytest_unconfigure() -> None:
    folder = os.environ["DARKROOM_WORKER_CACHE"]
    if "PYTEST_XDIST_WORKER" in os.environ:  # others still use it
        return
    if folder.startswith(os.path.join(tempfile.gettempdir(), "darkroom-tests-")):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without garbage collection, and exempt from it what is there at the end.

    Modules and tests are never garbage, but a full collection visits all their objects. A worker
    starts one when it removes a model, and pytest several at the end.
    """
    with lasting_imports():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first. Skip tests that need a GPU, with the reason, if there is none."""
    items[:] = in_order(items)
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


SHARED_SERVER = pytest.StashKey[RedisServer]()


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[RedisServer]:
    """Start one real server for the whole run. Tests that stop or kill a server start their own."""
    with RedisServer() as server:
        pytestconfig.stash[SHARED_SERVER] = server
        yield server


@pytest.fixture(scope="module", autouse=True)
def emptied_redis(pytestconfig: pytest.Config) -> None:
    """Empty the shared server before the tests of a file: a service of all of them may use it."""
    if (server := pytestconfig.stash.get(SHARED_SERVER, None)) is not None:
        _empty(server)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Empty the database of the shared server and return its address."""
    _empty(redis_server)
    return redis_server.url


def _empty(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


@pytest.fixture
def anyio_backend() -> str:
    """Return the event loop implementation of the `async def` tests."""
    return "asyncio"
