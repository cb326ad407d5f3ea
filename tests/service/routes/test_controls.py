"""ControlNets by HTTP, and the checks of their images."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.service.conftest import CARD, Running, running
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

CONTROLNETS = ("canny", "depth")


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, CARD.model_copy(update={"controlnets": CONTROLNETS})) as service:
        yield service


def stored(service: Running, key: str) -> Image.Image:
    return opened(in_base64(service.store.get(key)))


def control(model: str = "canny", **more: Any) -> dict[str, Any]:
    return {"model": model, "image": in_base64(packed(gradient(40, 20))), **more}


def test_control_images_are_stored_in_the_size_of_the_result(service: Running) -> None:
    controls = [control(weight=0.5, end=0.8), control("depth", start=0.2)]
    body = {"prompt": "a cat", "width": 48, "height": 32, "controls": controls}
    response = service.client.post("/v1/txt2img", json=body)
    assert response.status_code == 200, response.text
    (request,) = service.worker.seen
    controls_sent = [(c.model, c.weight, c.start, c.end) for c in request.controls]
    assert controls_sent == [("canny", 0.5, 0.0, 0.8), ("depth", 1.0, 0.2, 1.0)]
    expected = gradient(40, 20).resize((48, 32), Image.Resampling.LANCZOS)
    for use in request.controls:
        assert same(stored(service, use.image_key), expected)


def test_controls_in_a_form(service: Running) -> None:
    listed = [{"model": "canny", "weight": 0.25}, {"model": "depth"}]
    images = [gradient(64, 64), gradient(64, 64).transpose(Image.Transpose.ROTATE_90)]
    response = service.client.post(
        "/v1/img2img",
        files={
            "prompt": (None, "a cat"),
            "image": packed(gradient(64, 64)),
            "controls": (None, json.dumps(listed)),
            "control_image_1": packed(images[1]),
            "control_image_0": packed(images[0]),
        },
    )
    assert response.status_code == 200, response.text
    (request,) = service.worker.seen
    assert [use.weight for use in request.controls] == [0.25, 1.0]
    for use, image in zip(request.controls, images, strict=True):
        assert same(stored(service, use.image_key), image)


def test_inpainting_takes_controls(service: Running) -> None:
    body = {
        "prompt": "a cat",
        "image": in_base64(packed(gradient(64, 64))),
        "mask": in_base64(packed(left_half_white(64, 64))),
        "controls": [control()],
    }
    response = service.client.post("/v1/inpaint", json=body)
    assert response.status_code == 200, response.text
    (request,) = service.worker.seen
    assert len(set(request.input_keys)) == 3


@pytest.mark.parametrize("further", [{}, {"tile_size": 64, "width": 128, "height": 128}])
def test_control_without_image_takes_that_of_the_request(
    service: Running, further: dict[str, Any]
) -> None:
    image = in_base64(packed(gradient(64, 64)))
    controls = [{"model": "canny"}, {"model": "depth", "image": None}, control()]
    body = {"prompt": "a cat", "image": image, "controls": controls, **further}
    response = service.client.post("/v1/img2img", json=body)
    assert response.status_code == 200, response.text
    (request,) = service.worker.seen
    first, second, other = request.controls
    assert first.image_key == second.image_key == request.image_key != other.image_key


@pytest.mark.parametrize(
    ("field", "problem", "controls"),
    [
        ("controls.0.model", "unknown-controlnet", [control("scribble")]),
        ("controls.1.image", "bad-base64", [control(), {"model": "depth", "image": "!"}]),
        ("controls.0.image", "bad-base64", [{"model": "canny", "image": "http://127.0.0.1/x.png"}]),
        ("controls.0.image", "broken-image", [{"model": "canny", "image": "QUJD"}]),
        ("controls.0.image", "empty-file", [{"model": "canny", "image": ""}]),
        ("controls.0.image", "wrong-type", [{"model": "canny", "image": 1}]),
        ("controls.0.image", "control-without-image", [{"model": "canny", "image": None}]),
        ("controls.0.image", "control-without-image", [{"model": "canny"}]),
        ("controls.0", "wrong-type", ["canny"]),
        ("controls", "wrong-type", {"model": "canny"}),
        ("controls", "too-many", [control()] * 5),
        (
            "controls.0.image",
            "image-too-large",
            [{"model": "canny", "image": in_base64(packed(Image.new("L", (2000, 2000))))}],
        ),
    ],
)
def test_invalid_control_is_rejected_with_its_field(
    service: Running, field: str, problem: str, controls: Any
) -> None:
    response = service.client.post("/v1/txt2img", json={"prompt": "a cat", "controls": controls})
    assert response.status_code == 422, response.text
    body = response.json()
    assert (body["field"], body["type"].rsplit(":")[-1]) == (field, problem)
    assert service.worker.seen == []


def test_file_without_control_is_rejected(service: Running) -> None:
    fields: dict[str, Any] = {"prompt": (None, "a cat")}
    fields["control_image_0"] = packed(gradient(64, 64))
    for listed in ([], [{"model": "canny", "image": in_base64(packed(gradient(8, 8)))}]):
        files = {**fields, "controls": (None, json.dumps(listed))} if listed else fields
        response = service.client.post("/v1/txt2img", files=files)
        assert response.status_code == 422, response.text
        assert "control_image_0" in response.text


def test_model_without_controlnets_rejects_controls(redis_url: str) -> None:
    with running(redis_url) as plain:
        response = plain.client.post("/v1/txt2img", json={"prompt": "x", "controls": [control()]})
    assert response.status_code == 422
    assert "there are no ControlNets for tiny" in response.text
