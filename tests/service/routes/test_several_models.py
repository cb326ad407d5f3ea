"""What is said of models that a worker has, loads, would load, or cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import ModelReport, ModelState, WorkerReport, WorkerState
from tests.service.conftest import CARD, Running, running, word_tokenizer

ASKED = {"prompt": "a red heart", "steps": 2}


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, CARD.model_copy(update={"aliases": ("default", "sd")})) as service:
        yield service


def offered(service: Running, **reports: ModelReport) -> dict[str, Any]:
    """What `/v1/models` says while one worker has the service's model and is as told to others."""
    catalogue = ModelRegistry(service.worker.redis)
    for name in reports:
        catalogue.publish(CARD.model_copy(update={"name": name}), word_tokenizer())
    own = ModelReport(name=CARD.name, state=ModelState.READY)
    worker = WorkerReport(
        name="fake", state=WorkerState.READY, model=CARD.name, models=(own, *reports.values())
    )
    service.worker.presence.report(worker)
    listed = service.client.get("/v1/models").json()["models"]
    return {model["name"]: model for model in listed}


def test_each_model_says_how_it_is(service: Running) -> None:
    told = offered(
        service,
        asked=ModelReport(name="asked", state=ModelState.ON_DEMAND),
        coming=ModelReport(name="coming", state=ModelState.LOADING, progress=0.4),
        bad=ModelReport(name="bad", state=ModelState.FAILED, detail="its file is cut off"),
    )
    assert (told[CARD.name]["ready"], told[CARD.name]["workers"]) == (True, 1)
    states = ("ready", "on_demand", "loading", "trouble")
    assert [told["asked"][state] for state in states] == [False, True, None, None]
    assert [told["coming"][state] for state in states] == [False, False, 0.4, None]
    assert [told["bad"][state] for state in states] == [False, False, None, "its file is cut off"]
    assert next(iter(told)) == CARD.name  # what is ready comes first


def test_jobs_are_accepted_for_a_model_that_is_only_declared(service: Running) -> None:
    offered(service, asked=ModelReport(name="asked", state=ModelState.ON_DEMAND))
    answer = service.client.post(
        "/v1/txt2img", json={**ASKED, "model": "asked"}, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert answer.json()["state"] == "queued"


@pytest.mark.parametrize("name", ["default", "sd", CARD.name])
def test_an_alias_stands_for_the_name(service: Running, name: str) -> None:
    answer = service.client.post("/v1/txt2img", json={**ASKED, "model": name})
    assert answer.status_code == 200
    assert service.worker.seen[-1].model == CARD.name


def test_a_name_goes_before_an_alias(service: Running) -> None:
    offered(service, sd=ModelReport(name="sd", state=ModelState.ON_DEMAND))
    answer = service.client.post(
        "/v1/txt2img", json={**ASKED, "model": "sd"}, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert service.worker.redis.llen("rq:queue:darkroom-sd") == 1


def test_workers_are_counted_for_each_model(service: Running) -> None:
    offered(
        service,
        asked=ModelReport(name="asked", state=ModelState.ON_DEMAND),
        bad=ModelReport(name="bad", state=ModelState.FAILED),
    )
    metrics = service.client.get("/metrics").text
    for model, state in ((CARD.name, "ready"), ("asked", "on_demand"), ("bad", "setup_failed")):
        assert f'darkroom_workers{{model="{model}",state="{state}"}} 1.0' in metrics
    assert 'darkroom_workers{model="asked",state="ready"} 0.0' in metrics
