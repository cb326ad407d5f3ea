"""POST /models/{owner}/{model} and /hf-inference/models/{owner}/{model}."""

import httpx
import pytest
from PIL import Image

from protocol.request.request import GenerationRequest, Task
from tests.service.conftest import CARD, Running
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

PATH = "/models/someone/tiny"
PATHS = (PATH, "/models/tiny", "/hf-inference/models/someone/tiny", "/hf-inference/models/tiny")
IMAGE = packed(gradient(64, 48))


def inferred(
    service: Running, inputs: object = "a cat", /, **parameters: object
) -> tuple[Image.Image, GenerationRequest]:
    """Return the image of a request, and the request that the worker got."""
    body = {"inputs": inputs, "parameters": parameters}
    response = service.client.post(PATH, json=body, headers={"Accept": "image/png"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    return opened(response.content), service.worker.seen[-1]


def refused(service: Running, inputs: object = "a cat", /, **parameters: object) -> tuple[int, str]:
    response = service.client.post(PATH, json={"inputs": inputs, "parameters": parameters})
    body = response.json()
    assert body.keys() == {"error"}
    return response.status_code, body["error"]


@pytest.mark.parametrize("path", PATHS)
def test_generates_at_every_path(hub: Running, path: str) -> None:
    """The image is that of the native API for the same seed."""
    body = {"inputs": "a cat", "parameters": {"seed": 7}}
    response = hub.client.post(path, json=body)
    native = hub.client.post("/v1/txt2img", json={"prompt": "a cat", "seed": 7}).json()
    assert same(opened(response.content), opened(native["images"][0]["base64"]))
    assert response.headers["darkroom-seed"] == "7"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"num_inference_steps": 9, "guidance_scale": 3}, {"steps": 9, "guidance_scale": 3.0}),
        ({"num_inference_steps": "9"}, {"steps": 9}),
        ({"negative_prompt": "a dog", "width": 128}, {"negative_prompt": "a dog", "width": 128}),
        ({"height": 128, "width": 64}, {"width": 64, "height": 128}),
        ({"scheduler": "EulerDiscreteScheduler"}, {"sampler": "euler"}),
        ({"scheduler": "karras", "seed": None}, {"schedule": "karras"}),
        ({"output_format": "png", "clip_skip": 1}, {"clip_skip": 1}),
        ({"num_images_per_prompt": 4, "n": 4, "model": "x"}, {"n": 1, "model": "tiny"}),
    ],
)
def test_parameters(
    hub: Running, parameters: dict[str, object], expected: dict[str, object]
) -> None:
    request = inferred(hub, **parameters)[1]
    assert (request.task, request.prompt) == (Task.TXT2IMG, "a cat")
    assert {name: getattr(request, name) for name in expected} == expected


def test_parameters_may_be_left_out(hub: Running) -> None:
    for body in ({"inputs": "a cat"}, {"inputs": "a cat", "parameters": None, "options": None}):
        assert hub.client.post(PATH, json=body).status_code == 200


def test_the_accepted_format_is_that_of_the_file(hub: Running) -> None:
    for accept, kind in (("image/webp", "WEBP"), ("*/*", "PNG"), ("application/json", "PNG")):
        response = hub.client.post(PATH, json={"inputs": "x"}, headers={"Accept": accept})
        assert opened(response.content).format == kind
    body = {"inputs": "x", "parameters": {"output_format": "jpeg"}}
    assert opened(hub.client.post(PATH, json=body).content).format == "JPEG"
    response = hub.client.post(PATH, json=body, headers={"Accept": "image/gif"})
    assert (response.status_code, response.json().keys()) == (406, {"error"})


@pytest.mark.parametrize("parameters", [{"prompt": "a dog"}, {"strength": 0.5}])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_changes_an_image(hub: Running, parameters: dict[str, object], prefix: str) -> None:
    image, request = inferred(hub, prefix + in_base64(IMAGE), **parameters)
    assert request.task is Task.IMG2IMG
    assert request.prompt == parameters.get("prompt", "")
    assert same(image, gradient(64, 48))  # what the fake worker makes of it


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", ""])
def test_an_image_alone_is_the_body(hub: Running, kind: str, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    data = packed(gradient(64, 48), kind)
    response = hub.client.post(PATH, content=data, headers=headers)
    assert response.status_code == 200, response.text
    assert hub.worker.seen[-1].task is Task.IMG2IMG
    inferred(hub, in_base64(data))
    assert hub.worker.seen[-1].task is Task.IMG2IMG


def test_the_size_of_an_image(hub: Running) -> None:
    """A size that the model cannot generate becomes one of about the same aspect."""
    image = inferred(hub, in_base64(packed(gradient(400, 200))))[0]
    assert CARD.allows_size(*image.size)
    assert image.width / image.height == pytest.approx(2, rel=0.1)
    target = {"width": 128, "height": 64}
    request = inferred(hub, in_base64(IMAGE), prompt="x", target_size=target)[1]
    assert (request.width, request.height) == (128, 64)


def test_a_mask_marks_what_is_generated(hub: Running) -> None:
    mask = in_base64(packed(left_half_white(64, 48)))
    image, request = inferred(hub, in_base64(IMAGE), prompt="a dog", mask=mask)
    assert request.task is Task.INPAINT
    assert (image.getpixel((10, 10)), image.getpixel((60, 10))) == ((255, 0, 0), (120, 20, 70))


@pytest.mark.parametrize(
    ("inputs", "parameters", "status", "words"),
    [
        ("a cat", {"width": 67}, 422, "parameters.width is 67"),
        ("a cat", {"num_inference_steps": 99}, 422, "parameters.num_inference_steps is 99"),
        ("a cat", {"scheduler": "Restart"}, 422, "parameters.scheduler is"),
        ("word " * 21, {}, 422, "inputs"),
        ("", {"prompt": "a dog"}, 422, "inputs"),
        ("a cat", {"prompt": "a dog"}, 422, "inputs"),
        (in_base64(IMAGE), {"prompt": 5}, 422, "parameters.prompt is 5"),
        (in_base64(IMAGE), {"target_size": {"width": 64}}, 422, "parameters.target_size"),
        (in_base64(IMAGE), {"target_size": {"width": 1, "height": []}}, 422, "target_size.height"),
        (in_base64(IMAGE), {"mask": "x"}, 422, "parameters.mask"),
        (in_base64(IMAGE)[:40], {}, 422, "inputs"),
        (None, {}, 422, "inputs"),
        (["a cat"], {}, 422, "inputs"),
    ],
)
def test_what_cannot_be_done(
    hub: Running, inputs: object, parameters: dict[str, object], status: int, words: str
) -> None:
    found, error = refused(hub, inputs, **parameters)
    assert (found, words in error) == (status, True), error


def test_unknown_models(hub: Running) -> None:
    response = hub.client.post("/models/tiny/nope", json={"inputs": "a cat"})
    assert (response.status_code, response.json().keys()) == (404, {"error"})
    assert "nope" in response.json()["error"]


def test_errors_at_the_door(hub: Running) -> None:
    def check(response: httpx.Response, status: int) -> None:
        assert (response.status_code, response.json().keys()) == (status, {"error"})

    check(hub.client.get("/hf-inference/nothing"), 404)
    check(hub.client.put(PATH), 405)
    check(hub.client.post(PATH, content=b" " * 2**21), 413)
    check(hub.client.post(PATH, json={}, headers={"Host": "evil.example"}), 421)
    check(hub.client.post(PATH, content=b"{}", headers={"Content-Encoding": "gzip"}), 415)
