"""Requests as people write them: other spellings, sizes and files, over HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.service.conftest import ABLE, Running, running
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed
from tests.support.redis_server import RedisServer

IMAGE = in_base64(packed(gradient()))
JSON = {"Content-Type": "application/json; charset=utf-8"}
CARD = ABLE.model_copy(update={"controlnets": ("canny",)})


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    bounds = {"max_queue_length": 1000, "max_queue_per_client": 1000}
    with running(redis_server.url, CARD, **bounds) as service:
        yield service


def post(service: Running, task: str, **fields: object) -> httpx.Response:
    return service.client.post(f"/v1/{task}", json={"prompt": "x", **fields})


def size_of(response: httpx.Response) -> tuple[int, int]:
    assert response.status_code == 200, response.text
    image = response.json()["images"][0]
    return image["width"], image["height"]


def stored(service: Running, key: str | None) -> Image.Image:
    assert key is not None
    return opened(service.store.get(key))


# ---- JSON --------------------------------------------------------------------------------------


def test_every_optional_field_may_be_null(service: Running) -> None:
    schemas = service.client.get("/openapi.json").json()["components"]["schemas"]
    fields = dict.fromkeys(schemas["TextToImageRequest"]["properties"], None) | {"prompt": "x"}
    assert size_of(service.client.post("/v1/txt2img", json=fields)) == (64, 64)
    assert service.client.post("/v1/txt2img", json={"prompt": None}).status_code == 422


def test_url_may_be_null(service: Running) -> None:
    assert size_of(post(service, "img2img", image=IMAGE, image_url=None)) == (64, 64)
    body = json.dumps({"prompt": "x", "seed": -1, "steps": 3.0, "image_url": None})
    assert service.client.post("/v1/txt2img", content="\ufeff" + body, headers=JSON).is_success
    assert service.worker.seen[-1].steps == 3


# ---- forms -------------------------------------------------------------------------------------


def test_empty_fields_of_a_form_were_not_filled_in(service: Running) -> None:
    names = ("model", "width", "seed", "steps", "sampler", "loras", "controls", "priority")
    empty = dict.fromkeys((*names, "negative_prompt", "previews", "image_url"), (None, ""))
    no_file = ("", b"", "application/octet-stream")
    files: dict[str, Any] = {
        **empty,
        "prompt": (None, "x"),
        "image": ("a.png", packed(gradient())),
        "control_image_0": no_file,
    }
    assert size_of(service.client.post("/v1/img2img", files=files)) == (64, 64)
    files["image"] = no_file
    response = service.client.post("/v1/img2img", files=files)
    assert response.status_code == 422
    assert response.json()["detail"].startswith("image is missing")
    unknown = {"prompt": (None, "x"), "unknown": (None, "")}
    response = service.client.post("/v1/txt2img", files=unknown)
    assert response.json()["type"].endswith("unknown-field")


@pytest.mark.parametrize("text", ["16", "16.0", " 16 ", "+16", "1.6e1", "16."])
def test_numbers_of_a_form(service: Running, text: str) -> None:
    files = {"prompt": (None, "x"), "steps": (None, text), "guidance_scale": (None, ".5")}
    assert service.client.post("/v1/txt2img", files=files).is_success
    assert service.worker.seen[-1].steps == 16
    assert service.worker.seen[-1].guidance_scale == 0.5


def test_text_of_a_form_over_the_bound_is_named(service: Running) -> None:
    files = {"prompt": (None, "x"), "image": (None, "A" * 70_000)}
    response = service.client.post("/v1/img2img", files=files)
    assert response.status_code == 413
    problem = response.json()
    assert problem["field"] == "image"
    assert "at most 65536 bytes; images are sent as files" in problem["detail"]


@pytest.mark.parametrize("media_type", ["text/plain", "image/gif", "", "application/x-unknown"])
def test_media_type_of_a_file_is_not_used(service: Running, media_type: str) -> None:
    files: dict[str, Any] = {
        "prompt": (None, "x"),
        "image": ("a.txt", packed(gradient(), "JPEG"), media_type),
    }
    assert size_of(service.client.post("/v1/img2img", files=files)) == (64, 64)


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "fields", "size"),
    [
        ("txt2img", {"width": 128}, (128, 128)),
        ("img2img", {"width": 96, "image": in_base64(packed(gradient(200, 100)))}, (96, 48)),
        ("img2img", {"height": 96, "image": in_base64(packed(gradient(100, 150)))}, (64, 96)),
    ],
)
def test_other_side_is_in_proportion(
    service: Running, task: str, fields: dict[str, object], size: tuple[int, int]
) -> None:
    assert size_of(post(service, task, **fields)) == size


def test_upright_size_is_that_of_the_shown_image(service: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = in_base64(packed(gradient(200, 100), "JPEG", exif=exif))
    assert size_of(post(service, "img2img", image=turned, width=48)) == (48, 96)


@pytest.mark.parametrize("size", [(32, 32), (128, 128), (33, 33)])
def test_mask_of_the_same_aspect_is_resized(service: Running, size: tuple[int, int]) -> None:
    mask = in_base64(packed(left_half_white(*size)))
    response = post(service, "inpaint", image=IMAGE, mask=mask)
    assert size_of(response) == (64, 64)
    assert response.json()["warnings"] == []
    found = stored(service, service.worker.seen[-1].mask_key)
    assert found.size == (64, 64)
    assert found.getpixel((20, 32)) == 255
    assert found.getpixel((44, 32)) == 0


def test_mask_of_another_aspect_is_refused(service: Running) -> None:
    mask = in_base64(packed(left_half_white(32, 64)))
    response = post(service, "inpaint", image=IMAGE, mask=mask)
    assert response.status_code == 422
    assert response.json()["detail"] == (
        'mask is "32x64", but must be of the image\'s size, 64x64, or of the same aspect'
    )


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animation_gets_a_warning_and_its_first_frame_is_used(service: Running, kind: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    data = in_base64(packed(frames[0], kind, save_all=True, append_images=frames[1:]))
    response = post(service, "img2img", image=data)
    assert [w["code"] for w in response.json()["warnings"]] == ["image-animated"]
    assert response.json()["warnings"][0]["field"] == "image"
    response = post(service, "txt2img", controls=[{"model": "canny", "image": data}])
    assert response.json()["warnings"][0]["field"] == "controls.0.image"


def test_avif_is_taken(service: Running) -> None:
    image = in_base64(packed(gradient(), "AVIF", speed=10))
    assert size_of(post(service, "img2img", image=image)) == (64, 64)
    assert stored(service, service.worker.seen[-1].image_key).size == (64, 64)


def test_image_that_waits_too_long_for_memory_gets_a_429(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = service.app.state.services.submitter.images.memory
    monkeypatch.setattr(memory, "_wait_s", 0.01)
    with memory.reserved("image", "", memory.size):
        response = post(service, "img2img", image=IMAGE)
    assert response.status_code == 429
    assert response.json()["type"].endswith(":decoding-busy")
    assert int(response.headers["retry-after"]) > 0
    assert size_of(post(service, "img2img", image=IMAGE)) == (64, 64)


def test_image_that_takes_too_much_memory_gets_a_413() -> None:
    bounds = {"max_decoding_bytes": 2**24, "max_image_pixels": 2**24}
    with RedisServer() as server, running(server.url, **bounds) as service:
        large = in_base64(packed(Image.new("RGB", (3000, 2000))))
        response = post(service, "img2img", image=large, width=64)
        assert response.status_code == 413
        assert response.json()["field"] == "image"
        assert "at most 16 MiB to decode" in response.json()["detail"]
        assert size_of(post(service, "img2img", image=IMAGE)) == (64, 64)
