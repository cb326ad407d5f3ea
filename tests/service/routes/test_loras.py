"""LoRAs by HTTP: in JSON, in a form and in the prompt, for text-to-image and image-to-image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.request.request import LoraUse
from tests.service.conftest import CARD, Running, running
from tests.service.sample_images import gradient, in_base64, packed

LORAS = [{"name": "pencil", "weight": -0.5}, {"name": "oil"}]
USES = (LoraUse(name="pencil", weight=-0.5), LoraUse(name="oil"))


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, CARD.model_copy(update={"loras": ("oil", "pencil")})) as service:
        yield service


def test_loras_in_json_in_a_form_and_in_the_prompt(service: Running) -> None:
    requests: list[dict[str, Any]] = [
        {"json": {"prompt": "a cat", "loras": LORAS}},
        {"files": {"prompt": (None, "a cat"), "loras": (None, json.dumps(LORAS))}},
        {"json": {"prompt": "a <lora:pencil:-0.5>cat<lora:oil>"}},
    ]
    for sent in requests:
        response = service.client.post("/v1/txt2img", **sent)
        assert response.status_code == 200, response.text
        assert [image["finish_reason"] for image in response.json()["images"]] == ["success"]
    for request in service.worker.seen:
        assert (request.prompt, request.loras) == ("a cat", USES)


def test_plain_prompt_syntax_keeps_lora_tags_as_text(service: Running) -> None:
    body = {"prompt": "a <lora:water> b", "prompt_syntax": "plain"}
    assert service.client.post("/v1/txt2img", json=body).status_code == 200
    [request] = service.worker.seen
    assert (request.prompt, request.loras) == ("a <lora:water> b", ())


def test_img2img_takes_loras(service: Running) -> None:
    body = {"prompt": "a cat", "image": in_base64(packed(gradient())), "loras": LORAS}
    response = service.client.post("/v1/img2img", json=body)
    assert response.status_code == 200, response.text
    assert [request.loras for request in service.worker.seen] == [USES]


@pytest.mark.parametrize(
    ("loras", "field"),
    [
        ([{"name": "water"}], "loras"),
        ([{"name": "oil", "weight": 4.1}], "loras.0.weight"),
        ([{"name": "oil", "weight": "much"}], "loras.0.weight"),
        ([{"weight": 1}], "loras.0.name"),
        ([{"name": "oil", "path": "/x"}], "loras.0.path"),
        (["oil"], "loras.0"),
        ("oil", "loras"),
        (9 * LORAS, "loras"),
    ],
)
def test_invalid_lora_is_rejected_with_its_field(
    service: Running, loras: object, field: str
) -> None:
    response = service.client.post("/v1/txt2img", json={"prompt": "x", "loras": loras})
    assert response.status_code == 422, response.text
    assert response.json()["field"] == field


def test_models_list_their_loras(service: Running) -> None:
    [card] = service.client.get("/v1/models").json()["models"]
    assert card["loras"] == ["oil", "pencil"]
