"""Installs in Redis: bounded, held by one worker at a time, taken over from dead ones."""

import threading
import time

import pytest
from pydantic import ValidationError

from protocol.connection.redis_client import connect
from protocol.errors import TooManyInstalls, UnknownInstall
from protocol.registry.installs import (
    KEPT,
    MAX_ATTEMPTS,
    MOST_OPEN,
    Install,
    InstallRequest,
    Installs,
    InstallState,
    new_token,
)

LONG_S, GONE_S = 600.0, 0.001


@pytest.fixture
def installs(redis_url: str) -> Installs:
    return Installs(connect(redis_url))


def asked(number: int = 0) -> InstallRequest:
    return InstallRequest(source=f"owner/model-{number}")


def claim(installs: Installs, lease_s: float = LONG_S) -> tuple[Install, str]:
    token = new_token()
    install = installs.claim(token, lease_s)
    assert install is not None
    return install, token


def test_installs_are_claimed_in_order_by_one_worker_each(installs: Installs) -> None:
    ids = [installs.submit(asked(number)).id for number in range(3)]
    assert [claim(installs)[0].id for _ in ids] == ids
    assert installs.claim(new_token(), LONG_S) is None
    assert {install.state for install in installs.all()} == {InstallState.RUNNING}


def test_many_workers_that_claim_at_once_get_different_installs(installs: Installs) -> None:
    ids = {installs.submit(asked(number)).id for number in range(8)}
    found: list[str] = []

    def work() -> None:
        while (install := installs.claim(new_token(), LONG_S)) is not None:
            found.append(install.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(ids)


def test_claim_without_an_answer_is_repeated(installs: Installs) -> None:
    installs.submit(asked(1))
    installs.submit(asked(2))
    token = new_token()
    assert installs.claim(token, LONG_S) == installs.claim(token, LONG_S)


def test_only_the_holder_reports(installs: Installs) -> None:
    install_id = installs.submit(asked()).id
    _, token = claim(installs)
    stranger = new_token()
    assert not installs.report(install_id, stranger, LONG_S, 0.9, "unet")
    assert not installs.finish(install_id, stranger, "mine", "model")
    assert not installs.fail(install_id, stranger, "no")
    assert installs.get(install_id).share == 0
    assert installs.report(install_id, token, LONG_S, 0.5, "unet")
    assert (installs.get(install_id).share, installs.get(install_id).part) == (0.5, "unet")
    assert installs.finish(install_id, token, "mine", "model")
    ended = installs.get(install_id)
    assert (ended.state, ended.share, ended.name, ended.kind) == (
        *(InstallState.FINISHED, 1.0, "mine", "model"),
    )
    assert not installs.report(install_id, token, LONG_S, 0.1, "late")
    assert not installs.release(install_id, token)
    assert installs.get(install_id) == ended


def test_install_of_a_dead_worker_is_taken_over(installs: Installs) -> None:
    install_id = installs.submit(asked()).id
    _, dead = claim(installs, GONE_S)
    time.sleep(2 * GONE_S)
    install, token = claim(installs)
    assert install.id == install_id
    assert not installs.finish(install_id, dead, "mine", "model")  # it was not dead after all
    assert installs.finish(install_id, token, "mine", "model")


def test_install_that_ends_every_worker_fails(installs: Installs) -> None:
    install_id = installs.submit(asked()).id
    for _ in range(MAX_ATTEMPTS):
        claim(installs, GONE_S)
        time.sleep(2 * GONE_S)
    assert installs.claim(new_token(), LONG_S) is None
    failed = installs.get(install_id)
    assert (failed.state, failed.error) == (
        *(InstallState.FAILED, "every worker that tried it broke down"),
    )


def test_cancelled_install_is_nobodys(installs: Installs) -> None:
    waiting, running = installs.submit(asked(1)).id, installs.submit(asked(2)).id
    assert installs.cancel(waiting).state is InstallState.CANCELLED
    install, token = claim(installs)
    assert install.id == running
    assert installs.cancel(running).state is InstallState.CANCELLED
    assert not installs.report(running, token, LONG_S, 0.5, "unet")
    assert not installs.finish(running, token, "mine", "model")
    assert not installs.release(running, token)
    assert installs.claim(new_token(), LONG_S) is None
    assert installs.cancel(running) == installs.get(running)
    assert installs.submit(asked(2)).id != running


def test_ended_install_cannot_be_cancelled(installs: Installs) -> None:
    install_id = installs.submit(asked()).id
    _, token = claim(installs)
    installs.fail(install_id, token, "no")
    assert installs.cancel(install_id).state is InstallState.FAILED
    with pytest.raises(UnknownInstall):
        installs.cancel("0" * 16)


def test_released_install_counts_no_attempt(installs: Installs) -> None:
    install_id = installs.submit(asked()).id
    for _ in range(2 * MAX_ATTEMPTS):
        _, token = claim(installs)
        assert installs.release(install_id, token)
        assert installs.get(install_id).state is InstallState.QUEUED
    assert not installs.report(install_id, token, LONG_S, 0.5, "late")


def test_installs_are_bounded(installs: Installs) -> None:
    first = [installs.submit(asked(number)) for number in range(MOST_OPEN)]
    with pytest.raises(TooManyInstalls, match=f"{MOST_OPEN} installs have not ended"):
        installs.submit(asked(99))
    assert installs.submit(asked(0)) == first[0]
    for number in range(MOST_OPEN, KEPT + MOST_OPEN):
        install, token = claim(installs)
        assert installs.fail(install.id, token, "no such repository")
        installs.submit(asked(number))
    kept = installs.all()
    assert len(kept) == KEPT
    assert kept[0].source == f"owner/model-{KEPT + MOST_OPEN - 1}"
    with pytest.raises(UnknownInstall):
        installs.get(first[0].id)


@pytest.mark.parametrize("fields", [{"source": "a/b", "kind": "zip"}, {"source": "a/b", "x": 1}])
def test_request_is_strict(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InstallRequest.model_validate(fields)


def test_record_of_another_version_is_left_out(installs: Installs, redis_url: str) -> None:
    install_id = installs.submit(asked()).id
    with connect(redis_url) as redis:
        [key] = redis.keys("*install:*")
        redis.hset(key, "state", "paused")
    assert installs.all() == []
    with pytest.raises(UnknownInstall):
        installs.get(install_id)
