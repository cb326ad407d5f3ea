"""Models that a worker has loaded, is loading, loads on demand, or cannot load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import ModelReport, ModelState, WorkerReport, WorkerState
from tests.service.conftest import CARD, Running, running, word_tokenizer

REQUEST = {"prompt": "a red heart", "steps": 2}


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, CARD.model_copy(update={"aliases": ("default", "sd")})) as service:
        yield service


def listed(service: Running, **reports: ModelReport) -> dict[str, Any]:
    """Return `/v1/models` while one worker has loaded the service's model and sends `reports`."""
    registry = ModelRegistry(service.worker.redis)
    for name in reports:
        registry.publish(CARD.model_copy(update={"name": name}), word_tokenizer())
    own = ModelReport(name=CARD.name, state=ModelState.READY)
    worker = WorkerReport(
        name="fake", state=WorkerState.READY, model=CARD.name, models=(own, *reports.values())
    )
    service.worker.presence.report(worker)
    models = service.client.get("/v1/models").json()["models"]
    return {model["name"]: model for model in models}


def test_state_of_each_model_is_listed(service: Running) -> None:
    models = listed(
        service,
        lazy=ModelReport(name="lazy", state=ModelState.ON_DEMAND),
        loading=ModelReport(name="loading", state=ModelState.LOADING, progress=0.4),
        bad=ModelReport(name="bad", state=ModelState.FAILED, detail="its file is cut off"),
    )
    assert (models[CARD.name]["ready"], models[CARD.name]["workers"]) == (True, 1)
    states = ("ready", "on_demand", "loading", "trouble")
    assert [models["lazy"][state] for state in states] == [False, True, None, None]
    assert [models["loading"][state] for state in states] == [False, False, 0.4, None]
    assert [models["bad"][state] for state in states] == [False, False, None, "its file is cut off"]
    assert next(iter(models)) == CARD.name  # ready models come first


def test_job_for_an_on_demand_model_is_accepted(service: Running) -> None:
    listed(service, lazy=ModelReport(name="lazy", state=ModelState.ON_DEMAND))
    response = service.client.post(
        "/v1/txt2img", json={**REQUEST, "model": "lazy"}, headers={"Prefer": "respond-async"}
    )
    assert response.status_code == 202
    assert response.json()["state"] == "queued"


@pytest.mark.parametrize("name", ["default", "sd", CARD.name])
def test_alias_stands_for_the_name(service: Running, name: str) -> None:
    response = service.client.post("/v1/txt2img", json={**REQUEST, "model": name})
    assert response.status_code == 200
    assert service.worker.seen[-1].model == CARD.name


def test_name_takes_precedence_over_alias(service: Running) -> None:
    listed(service, sd=ModelReport(name="sd", state=ModelState.ON_DEMAND))
    response = service.client.post(
        "/v1/txt2img", json={**REQUEST, "model": "sd"}, headers={"Prefer": "respond-async"}
    )
    assert response.status_code == 202
    assert service.worker.redis.llen("rq:queue:darkroom-sd") == 1


def test_workers_are_counted_for_each_model(service: Running) -> None:
    listed(
        service,
        lazy=ModelReport(name="lazy", state=ModelState.ON_DEMAND),
        bad=ModelReport(name="bad", state=ModelState.FAILED),
    )
    metrics = service.client.get("/metrics").text
    for model, state in ((CARD.name, "ready"), ("lazy", "on_demand"), ("bad", "setup_failed")):
        assert f'darkroom_workers{{model="{model}",state="{state}"}} 1.0' in metrics
    assert 'darkroom_workers{model="lazy",state="ready"} 0.0' in metrics
