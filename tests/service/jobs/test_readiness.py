"""GET /readyz agrees with POST: 200 if and only if a request would be accepted."""

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope
from protocol.registry.model_registry import CARDS, TOKENIZERS, ModelRegistry
from protocol.registry.presence import WORKERS, WorkerReport, WorkerState
from tests.service.conftest import CARD, Running, running, word_tokenizer
from tests.support.redis_server import RedisServer

WITHIN_S = 60.0  # patience; an API process caches nothing for more than five seconds


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def post(service: Running, **headers: str) -> httpx.Response:
    headers |= {"Prefer": "respond-async, wait=0"}  # nor for a model
    return service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers)


def becomes(service: Running, ready: bool, **headers: str) -> str:
    """Wait until /readyz and POST both give that answer; return the reason for a 503."""
    expected, deadline = (200, 202) if ready else (503, 503), time.monotonic() + WITHIN_S
    while True:
        readiness, posted = service.client.get("/readyz"), post(service, **headers)
        if (readiness.status_code, posted.status_code) == expected:
            return "" if ready else str(readiness.json()["detail"])
        assert time.monotonic() < deadline, (readiness.text, posted.text)
        time.sleep(0.05)


def publish(service: Running) -> None:
    """Publish what a worker publishes again."""
    ModelRegistry(service.worker.redis).publish(CARD, word_tokenizer())
    service.worker.report()


@pytest.mark.parametrize(
    "lose",
    [
        lambda service: service.worker.redis.flushall(),
        lambda service: service.worker.redis.delete(CARDS),
        lambda service: service.worker.redis.hdel(CARDS, CARD.name),
    ],
)
def test_ready_only_with_a_published_model(
    service: Running, lose: Callable[[Running], object]
) -> None:
    becomes(service, ready=True)
    lose(service)
    service.worker.report()
    assert "published" in becomes(service, ready=False)
    publish(service)
    becomes(service, ready=True)


def test_ready_only_with_a_published_tokenizer(redis_url: str) -> None:
    with running(redis_url) as service:  # which has not loaded the tokenizer yet
        service.worker.redis.delete(TOKENIZERS)
        assert "published" in becomes(service, ready=False)
        publish(service)
        becomes(service, ready=True)


def test_not_ready_with_cards_of_other_models_only(service: Running) -> None:
    service.worker.presence.report(
        WorkerReport(name="fake", state=WorkerState.READY, model="another")
    )
    response = service.client.get("/readyz")
    assert response.status_code == 503
    assert "another" in response.json()["detail"]


def test_card_of_another_version_does_no_harm(service: Running) -> None:
    """As from an old backup; so the reports of workers."""
    redis = service.worker.redis
    redis.hset(CARDS, "old", '{"name": "old", "gone": 1}')
    redis.set("darkroom:worker:old", '{"name": "old", "gone": 1}')
    redis.zadd(WORKERS, {"old": time.time()})
    time.sleep(1.1)  # the cards are read again
    becomes(service, ready=True)
    assert [model["name"] for model in service.client.get("/v1/models").json()["models"]] == [
        CARD.name
    ]
    assert service.client.get("/metrics").status_code == 200


def test_not_ready_while_redis_has_no_memory(own_redis: RedisServer) -> None:
    with running(own_redis.url) as service:
        service.worker.hold()  # its writes would be refused, too
        becomes(service, ready=True)
        service.worker.redis.config_set("maxmemory", 1)
        becomes(service, ready=False)
        service.worker.redis.config_set("maxmemory", 0)
        becomes(service, ready=True)


def test_not_ready_while_redis_is_a_replica(own_redis: RedisServer) -> None:
    with running(own_redis.url) as service:
        service.worker.hold()
        becomes(service, ready=True)
        service.worker.redis.replicaof("127.0.0.1", "1")
        becomes(service, ready=False)
        service.worker.redis.replicaof("NO", "ONE")
        becomes(service, ready=True)


def test_not_ready_without_any_api_key(redis_url: str) -> None:
    with running(redis_url, auth="required") as service:
        token, record = ApiKey.create("a client", frozenset({Scope.GENERATE}), KeyLimits(), 0.0)
        key = {"X-API-Key": token}
        assert "darkroom keys create" in becomes(service, ready=False, **key)
        KeyRecords(service.worker.redis).add(record)
        becomes(service, ready=True, **key)
        service.worker.redis.flushall()
        publish(service)
        assert "darkroom keys create" in becomes(service, ready=False, **key)
        assert post(service).status_code == 503
        KeyRecords(service.worker.redis).add(record)
        becomes(service, ready=True, **key)
        assert post(service).status_code == 401


def test_admin_key_does_not_depend_on_redis(redis_url: str) -> None:
    admin = "an-admin-key-of-thirty-two-characters-or-more"
    with running(redis_url, auth="required", admin_key=admin) as service:
        becomes(service, ready=True, **{"X-API-Key": admin})
        service.worker.redis.flushall()
        publish(service)
        becomes(service, ready=True, **{"X-API-Key": admin})
        assert post(service).status_code == 401
