"""The tasks of the latent diffusion paper by HTTP, in JSON and in a form."""

import json
from collections.abc import Iterator

import pytest
from PIL import Image

from protocol.request.tasks import Task
from tests.service.conftest import ABLE, Running, running
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

BOX = {"class": 3, "x": 0.25, "y": 0.0, "width": 0.75, "height": 0.5}


def label_map(mode: str = "L") -> Image.Image:
    """Return a label map of four columns, 64 x 64; mode P has a palette of unrelated colours."""
    labels = Image.new("L", (64, 64))
    for column in range(4):
        labels.paste(3 * column, (16 * column, 0, 16 * column + 16, 64))
    if mode == "P":
        labels = Image.frombytes("P", labels.size, labels.tobytes())
        labels.putpalette([200 - place % 200 for place in range(768)])
    return labels


@pytest.fixture
def service(redis_url: str) -> Iterator[Running]:
    with running(redis_url, ABLE) as service:
        yield service


@pytest.fixture
def without_text(redis_url: str) -> Iterator[Running]:
    """Run a service whose model takes no prompt and has two tasks."""
    update = {"tasks": (Task.INPAINT, Task.UNCONDITIONAL), "max_prompt_tokens": 0}
    with running(redis_url, ABLE.model_copy(update=update)) as service:
        yield service


def test_upscaling_accepts_an_image_of_any_size(service: Running) -> None:
    small = gradient(33, 50)
    responses = [
        service.client.post("/v1/upscale", json={"image": in_base64(packed(small))}),
        service.client.post("/v1/upscale", files={"image": packed(small)}),
    ]
    for response in responses:
        assert response.status_code == 200, response.text
        (image,) = response.json()["images"]
        assert (image["width"], image["height"]) == (66, 100)
        expected = small.resize((66, 100), Image.Resampling.NEAREST)
        assert same(opened(image["base64"]), expected)


def test_unconditional_needs_no_fields(service: Running) -> None:
    response = service.client.post("/v1/unconditional", json={})
    assert response.status_code == 200, response.text
    (request,) = service.worker.seen
    assert (request.task, request.prompt, request.width) == ("unconditional", "", 64)


def test_class_by_number(service: Running) -> None:
    for sent in ({"json": {"class_id": 7}}, {"files": {"class_id": (None, "7")}}):
        response = service.client.post("/v1/class", **sent)
        assert response.status_code == 200, response.text
    assert [request.class_id for request in service.worker.seen] == [7, 7]


def test_class_by_name(redis_url: str) -> None:
    names = tuple(f"thing {i}" for i in range(ABLE.classes))
    with running(redis_url, ABLE.model_copy(update={"class_names": names})) as service:
        for sent in ({"json": {"class_id": "thing 4"}}, {"files": {"class_id": (None, "thing 4")}}):
            response = service.client.post("/v1/class", **sent)
            assert response.status_code == 200, response.text
        body = {"boxes": [BOX | {"class": "thing 2"}, BOX]}
        assert service.client.post("/v1/layout", json=body).status_code == 200
        response = service.client.post("/v1/class", json={"class_id": "thing"})
        assert response.json()["bound"] == "a class of tiny, one of its class_names"
    first, second, third = service.worker.seen
    assert (first.class_id, second.class_id) == (4, 4)
    assert third.boxes is not None
    assert [box.class_id for box in third.boxes] == [2, 3]


def test_boxes_in_json_and_in_a_form(service: Running) -> None:
    for sent in (
        {"json": {"boxes": [BOX, BOX]}},
        {"files": {"boxes": (None, json.dumps([BOX, BOX]))}},
    ):
        response = service.client.post("/v1/layout", **sent)
        assert response.status_code == 200, response.text
    for request in service.worker.seen:
        assert request.boxes is not None
        assert [box.model_dump() for box in request.boxes] == [BOX, BOX]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_label_map_is_not_changed(service: Running, mode: str) -> None:
    body = {"image": in_base64(packed(label_map(mode)))}
    response = service.client.post("/v1/semantic", json=body)
    assert response.status_code == 200, response.text
    assert same(opened(response.json()["images"][0]["base64"]), label_map())
    resized = service.client.post("/v1/semantic", json=body | {"width": 128, "height": 96})
    assert resized.status_code == 200, resized.text
    grey = opened(resized.json()["images"][0]["base64"])
    assert grey.size == (128, 96)
    assert {value for _, value in grey.getcolors() or []} == {0, 3, 6, 9}


def test_inpainting_needs_no_prompt_if_the_model_takes_none(without_text: Running) -> None:
    body = {"image": in_base64(packed(gradient())), "mask": in_base64(packed(left_half_white()))}
    assert without_text.client.post("/v1/inpaint", json=body).status_code == 200
    response = without_text.client.post("/v1/inpaint", json=body | {"prompt": "a cat"})
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, "prompt")
    assert "reads no words" in problem["detail"]


def test_unsupported_task_is_rejected_with_the_supported_ones(without_text: Running) -> None:
    for body in ({"class_id": 1}, {"class_id": 1, "model": "tiny"}):
        response = without_text.client.post("/v1/class", json=body)
        problem = response.json()
        assert response.status_code == 422
        assert problem["type"] == "urn:darkroom:problem:unsupported-task"
        assert "there is none here" in problem["detail"]
        assert "tiny does inpaint, unconditional" in problem["detail"]
