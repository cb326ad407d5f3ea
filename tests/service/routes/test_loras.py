"""LoRAs by HTTP: in JSON, in a form and in the prompt, for text-to-image and image-to-image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from models.loading.loader import load_model
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from protocol.request.model_card import LoraInfo
from protocol.request.prompts import LORA_FORM
from protocol.request.request import LoraUse
from tests.service.conftest import CARD, Running, running
from tests.service.sample_images import gradient, in_base64, packed
from tests.support.tiny_models import write_tiny_sd

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


def test_weights_blocks_and_intervals_reach_the_worker(service: Running) -> None:
    outd = (1.0, *7 * (0.0,), *4 * (1.0,), *5 * (0.0,))
    listed = [0.5, *19 * [1.0]]
    loras = [
        {"name": "oil", "weight": 0.8, "text_encoder_weight": 0.25, "block_weights": "OUTD"},
        {"name": "pencil", "block_weights": listed, "start": 0.25, "end": 0.5},
    ]
    expected = (
        LoraUse(name="oil", weight=0.8, text_encoder_weight=0.25, block_weights=outd),
        LoraUse(name="pencil", block_weights=tuple(listed), start=0.25, end=0.5),
    )
    tags = ",".join(map(str, listed))
    prompt = f"a cat<lora:oil:0.25:0.8:lbw=OUTD><lora:pencil:1:lbw={tags}:start=0.25:stop=0.5>"
    for body in ({"prompt": "a cat", "loras": loras}, {"prompt": prompt}):
        response = service.client.post("/v1/txt2img", json=body)
        assert response.status_code == 200, response.text
    assert [request.loras for request in service.worker.seen] == [expected, expected]
    assert [request.prompt for request in service.worker.seen] == ["a cat", "a cat"]


@pytest.mark.parametrize(
    ("body", "field", "problem", "bound"),
    [
        ({"loras": [{"name": "oil", "block_weights": "BEST"}]}, "loras.0.block_weights",
         "unknown-choice", "one of NONE, ALL, INS, IND, INALL, MIDD, OUTD, OUTS, OUTALL, ALL0.5"),
        ({"loras": [{"name": "oil", "block_weights": [1]}]}, "loras.0.block_weights",
         "too-few", "at least 12 of them"),
        ({"loras": [{"name": "oil", "block_weights": 13 * [1]}]}, "loras", "block-weights",
         "with block_weights that are a list of 12, 17, 20, 26 numbers"),
        ({"loras": [{"name": "oil", "text_encoder_weight": 5}]}, "loras.0.text_encoder_weight",
         "out-of-range", "at most 4"),
        ({"loras": [{"name": "oil", "start": 2}]}, "loras.0.start", "out-of-range", "at most 1"),
        ({"loras": [{"name": "oil", "start": 0.5, "end": 0.25}]}, "loras", "lora-interval",
         "with a start up to its end, which is 0.25"),
        ({"loras": [{"name": "oil", "end": 0.4}, {"name": "pencil", "start": 0.2},
                    {"name": "pencil", "weight": 0.5}]}, "loras", "too-many-lora-sets",
         "at most 2 different sets of them over the steps (start and end)"),
        ({"prompt": "<lora:oil:1:1:9>"}, "prompt", "lora-syntax", LORA_FORM),
        ({"prompt": "<lora:oil:1:dyn=8>"}, "prompt", "lora-syntax", LORA_FORM),
    ],
)  # fmt: skip
def test_refusals_say_what_is_possible(
    service: Running, body: dict[str, Any], field: str, problem: str, bound: str
) -> None:
    response = service.client.post("/v1/txt2img", json={"prompt": "x"} | body)
    assert response.status_code == 422, response.text
    found = response.json()
    assert (found["field"], found["bound"]) == (field, bound)
    assert found["type"].endswith(f":{problem}")


REFUSED: dict[str, dict[str, tuple[int, ...]]] = {
    "OFT": {"oft_blocks": (2, 2, 2)},
    "GLoRA": {"a1.weight": (2, 2), "b1.weight": (2, 2)},
    "IA3": {"on_input": (1,), "weight": (64,)},
    "AdaLoRA": {"lora_E": (2, 1)},
    "T-LoRA": {"lambda_layer": (2,)},
}


@pytest.fixture(scope="module")
def misfits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return why files of unsupported kinds do not fit a model, as a worker's card has it."""
    model = load_model(str(write_tiny_sd(tmp_path_factory.mktemp("sd"))), torch.device("meta"))
    folder = tmp_path_factory.mktemp("loras")
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    for name, shapes in REFUSED.items():
        tensors = {f"{layer}.{end}": torch.ones(shape) for end, shape in shapes.items()}
        save_file(tensors, folder / f"{name}.safetensors")
    reasons = LoraRegistry(folder).misfits(layers_of(model))
    return {name: reason for name, reason in reasons.items() if reason is not None}


def test_kinds_that_cannot_be_merged_are_refused_by_name(
    redis_url: str, misfits: dict[str, str]
) -> None:
    assert misfits.keys() == REFUSED.keys()
    with running(redis_url, CARD.model_copy(update={"misfits": {"loras": misfits}})) as service:
        for name in REFUSED:
            body = {"prompt": "x", "loras": [{"name": name}]}
            response = service.client.post("/v1/txt2img", json=body)
            assert response.status_code == 422
            assert f"{name}: does not fit: {name} is not supported" in response.json()["bound"]


def test_words_that_a_lora_brings_along_are_counted(redis_url: str) -> None:
    info = LoraInfo(name="oil", words={"hat": 40}, trigger_words="oil painting", steps=4)
    card = CARD.model_copy(update={"loras": ("oil",), "lora_info": (info,)})
    with running(redis_url, card) as service:
        prompt = "hat " * 10
        for loras, status in (([], 200), ([{"name": "oil"}], 422)):
            body = {"prompt": prompt, "loras": loras}
            response = service.client.post("/v1/txt2img", json=body)
            assert response.status_code == status, response.text
        [listed] = service.client.get("/v1/models").json()["models"]
        assert listed["lora_info"][0]["trigger_words"] == "oil painting"


def test_models_list_their_loras(service: Running) -> None:
    [card] = service.client.get("/v1/models").json()["models"]
    assert card["loras"] == ["oil", "pencil"]
