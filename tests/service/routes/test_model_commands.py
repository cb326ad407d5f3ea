"""Loading and unloading models by request: for admins, where the operator allows it."""

from collections.abc import Iterator

import pytest

from protocol.registry.model_commands import Action, ModelCommands
from protocol.registry.presence import ModelReport, ModelState, WorkerReport, WorkerState
from tests.service.conftest import CARD, Running, running
from tests.service.keys import ADMIN_KEY, key_for

ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture
def secured(redis_url: str) -> Iterator[Running]:
    changed = {"admin_key": ADMIN_KEY, "model_control": True}
    with running(redis_url, auth="required", **changed) as service:
        yield service


@pytest.mark.parametrize("action", Action)
def test_admin_commands_the_workers(secured: Running, action: Action) -> None:
    path = f"/v1/models/{CARD.name}/{action}"
    response = secured.client.post(path, headers=ADMIN)
    assert (response.status_code, response.json()["name"]) == (202, CARD.name)
    assert ModelCommands(secured.worker.redis).all()[CARD.name].action is action
    refused = secured.client.post(path, headers=key_for(secured))
    assert (refused.status_code, refused.json()["title"]) == (403, "Forbidden")


def test_unknown_model(secured: Running) -> None:
    response = secured.client.post("/v1/models/unknown/load", headers=ADMIN)
    assert (response.status_code, response.json()["title"]) == (404, "Unknown model")


def test_no_worker_can_load_it(secured: Running) -> None:
    broken = ModelReport(name=CARD.name, state=ModelState.FAILED, detail="no file")
    report = WorkerReport(name="fake", state=WorkerState.READY, models=(broken,))
    secured.worker.presence.report(report)
    response = secured.client.post(f"/v1/models/{CARD.name}/load", headers=ADMIN)
    assert (response.status_code, response.json()["title"]) == (503, "Not ready")


def test_off_by_default(service: Running) -> None:
    response = service.client.post(f"/v1/models/{CARD.name}/unload")
    assert response.status_code == 403
    assert "DARKROOM_MODEL_CONTROL" in response.json()["detail"]
    assert ModelCommands(service.worker.redis).all() == {}
