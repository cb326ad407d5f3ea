"""GET /v1/models and /v1/models/{id}."""

from collections.abc import Iterator

import pytest

from tests.service.conftest import CARD, Running, running
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module")
def aliased(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, CARD.model_copy(update={"aliases": ("small",)})) as service:
        yield service


def test_the_list_serves_both_apis(aliased: Running) -> None:
    models = aliased.client.get("/v1/models").json()
    assert models["object"] == "list"
    assert models["data"] == [
        {"id": "tiny", "object": "model", "created": 0, "owned_by": "darkroom"}
    ]
    assert [model["name"] for model in models["models"]] == ["tiny"]


@pytest.mark.parametrize("name", ["tiny", "small", "dall-e-3", "gpt-image-1"])
def test_one_model(aliased: Running, name: str) -> None:
    model = aliased.client.get(f"/v1/models/{name}").json()
    assert (model["id"], model["object"], model["owned_by"]) == (name, "model", "darkroom")
    assert isinstance(model["created"], int)
    (listed,) = aliased.client.get("/v1/models").json()["models"]
    assert {field: model[field] for field in listed} == listed


@pytest.mark.parametrize("name", ["nope", "owner%2Fname", "owner/name", "%00", "gpt-4o"])
def test_an_unknown_model(aliased: Running, name: str) -> None:
    response = aliased.client.get(f"/v1/models/{name}")
    body = response.json()
    assert response.status_code == body["status"] == 404
    assert body["type"].startswith("urn:darkroom:problem:")
    assert body["error"]["code"] == "model_not_found"
