"""The installer's periodic task on a real Redis; only the work is a fake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from models.checkpoints.convert.model_store import Installed
from models.checkpoints.errors import CheckpointError
from protocol.errors import QueueUnavailable
from protocol.registry.installs import Install, InstallRequest, Installs, InstallState, new_token
from tests.worker.consumer.harness import client, wait_for
from worker.installs.installer import Installer, Progress

LONG_S = 600.0
INSTALLED = Installed("lora", "pencil", "LoRA", Path("pencil"))


@pytest.fixture
def installs(redis_url: str) -> Installs:
    return Installs(client(redis_url))


@pytest.fixture
def install_id(installs: Installs) -> str:
    return installs.submit(InstallRequest(source="owner/pencil")).id


class Work:
    """Work that waits until it is told to go on, then returns or raises its outcome."""

    def __init__(self, outcome: Installed | BaseException = INSTALLED) -> None:
        self.outcome = outcome
        self.may_end = threading.Event()
        self.begun = 0
        self.ended: list[str] = []

    def __call__(self, install: Install, report: Progress) -> Installed:
        self.begun += 1
        try:
            while not self.may_end.is_set():
                report(0.5, "half of it")
                time.sleep(0.005)
        finally:
            self.ended.append(install.id)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def checked(installer: Installer, condition: Callable[[], bool]) -> None:
    """Run the periodic task until the condition holds."""

    def done() -> bool:
        installer.check()
        return condition()

    wait_for(done)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.may_end.set()


def test_progress_is_reported_and_then_the_end(
    installs: Installs, install_id: str, work: Work
) -> None:
    with closing(Installer(installs, work, LONG_S)) as installer:
        checked(installer, lambda: installs.get(install_id).share == 0.5)
        assert installs.get(install_id).part == "half of it"
        installs.submit(InstallRequest(source="owner/next"))
        for _ in range(3):  # one at a time
            installer.check()
        assert work.begun == 1
        work.may_end.set()
        checked(installer, lambda: installs.get(install_id).state is InstallState.FINISHED)
        checked(installer, lambda: work.begun == 2)
    assert (installs.get(install_id).name, installs.get(install_id).kind) == ("pencil", "lora")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CheckpointError("it does not load"), "it does not load"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (RuntimeError("deep inside"), "RuntimeError: deep inside"),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_error_is_the_reason(
    installs: Installs, install_id: str, work: Work, error: Exception, reason: str
) -> None:
    work.outcome = error
    work.may_end.set()
    with closing(Installer(installs, work, LONG_S)) as installer:
        checked(installer, lambda: installs.get(install_id).state is InstallState.FAILED)
    assert installs.get(install_id).error == reason


def test_install_is_begun_again_after_an_outage_of_redis(
    installs: Installs, install_id: str, work: Work
) -> None:
    work.outcome = QueueUnavailable()
    work.may_end.set()
    with closing(Installer(installs, work, LONG_S)) as installer:
        checked(installer, lambda: work.begun >= 2)
        work.outcome = INSTALLED
        checked(installer, lambda: installs.get(install_id).state is InstallState.FINISHED)


def test_stopping_worker_gives_its_install_back(
    installs: Installs, install_id: str, work: Work
) -> None:
    with closing(Installer(installs, work, LONG_S)) as installer:
        checked(installer, lambda: installs.get(install_id).share == 0.5)
    assert work.ended == [install_id]
    assert installs.get(install_id).state is InstallState.QUEUED
    assert installs.claim(new_token(), LONG_S) is not None


def test_cancelled_install_stops(installs: Installs, install_id: str, work: Work) -> None:
    with closing(Installer(installs, work, LONG_S)) as installer:
        checked(installer, lambda: installs.get(install_id).share == 0.5)
        installs.cancel(install_id)
        checked(installer, lambda: bool(work.ended))
    assert installs.get(install_id).state is InstallState.CANCELLED


def test_worker_that_lost_its_lease_stops(installs: Installs, install_id: str, work: Work) -> None:
    with closing(Installer(installs, work, 0.001)) as installer:
        checked(installer, lambda: work.begun == 1)
        wait_for(lambda: (installs.claim("other", LONG_S)) is not None)
        checked(installer, lambda: bool(work.ended))
        installer.check()
        assert installs.finish(install_id, "other", "pencil", "lora")
    assert installs.get(install_id).state is InstallState.FINISHED
