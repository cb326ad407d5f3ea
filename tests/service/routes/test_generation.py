"""Generation by HTTP: every task, content type, file format and kind of response."""

import httpx
import pytest
from PIL import Image

from protocol.request.fields import SEED_LIMIT
from tests.service.conftest import Running
from tests.service.fake_worker import RED
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

ASYNC = {"Prefer": "respond-async"}


def test_txt2img_responds_with_the_image(service: Running) -> None:
    response = service.client.post("/v1/txt2img", json={"prompt": "a red heart", "seed": 7})
    assert response.status_code == 200, response.text
    body = response.json()
    assert body["timings"]["denoise"] == 0.5
    (image,) = body["images"]
    assert (image["seed"], image["width"], image["height"]) == (7, 64, 64)
    assert opened(image["base64"]).size == (64, 64)
    assert "url" not in image


def test_absent_fields_get_the_models_defaults(service: Running) -> None:
    service.client.post("/v1/txt2img", json={"prompt": "x"}).raise_for_status()
    (request,) = service.worker.seen
    assert (request.steps, request.sampler, request.guidance_scale) == (4, "ddim", 5.0)
    assert 0 <= request.seed < SEED_LIMIT


def test_every_field_reaches_the_worker(service: Running) -> None:
    fields = {
        "model": "tiny",
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "prompt_syntax": "plain",
        "clip_skip": 2,
        "width": 128,
        "height": 96,
        "steps": 9,
        "sampler": "euler",
        "schedule": "karras",
        "guidance_scale": 3,
        "guidance_start": 0.25,
        "guidance_end": 0.75,
        "seed": SEED_LIMIT - 1,
        "n": 3,
        "output_format": "webp",
        "quality": 80,
        "priority": "high",
        "deadline_s": 30,
        "response": "url",
    }
    response = service.client.post("/v1/txt2img", json=fields)
    assert response.status_code == 200, response.text
    (request,) = service.worker.seen
    received = request.model_dump(mode="json", exclude_defaults=True)
    assert received == {key: value for key, value in fields.items() if key != "response"} | {
        "task": "txt2img"
    }
    assert [image["seed"] for image in response.json()["images"]] == [SEED_LIMIT - 1, 0, 1]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif"])
def test_images_by_url(service: Running, kind: str) -> None:
    fields = {"prompt": "x", "response": "url", "output_format": kind}
    (image,) = service.client.post("/v1/txt2img", json=fields).json()["images"]
    response = httpx.get(image["url"], timeout=60)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"image/{kind}"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert len(response.content) == image["bytes"]
    assert (opened(response.content).format or "").lower() == kind


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_img2img_in_json(service: Running, prefix: str) -> None:
    fields = {"prompt": "x", "image": prefix + in_base64(packed(gradient())), "strength": 0.5}
    response = service.client.post("/v1/img2img", json=fields)
    assert response.status_code == 200, response.text
    assert same(opened(response.json()["images"][0]["base64"]), gradient())
    assert service.worker.seen[0].strength == 0.5


def test_img2img_as_a_form(service: Running) -> None:
    response = service.client.post(
        "/v1/img2img",
        data={"prompt": "x", "steps": "6", "strength": "0.5", "seed": "3", "guidance_scale": "2"},
        files={"image": ("in.png", packed(gradient()), "image/png")},
    )
    assert response.status_code == 200, response.text
    (request,) = service.worker.seen
    assert (request.steps, request.strength, request.guidance_scale) == (6, 0.5, 2.0)
    assert same(opened(response.json()["images"][0]["base64"]), gradient())


def test_txt2img_as_a_form(service: Running) -> None:
    response = service.client.post("/v1/txt2img", files={"prompt": (None, "42")})
    assert response.status_code == 200, response.text
    assert service.worker.seen[0].prompt == "42"


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("On", True), ("1", True), ("no", False)]
)
def test_true_and_false_in_a_form(service: Running, text: str, value: bool) -> None:
    files = {"prompt": (None, "x"), "previews": (None, text)}
    response = service.client.post("/v1/txt2img", files=files)
    assert response.status_code == 200, response.text
    assert service.worker.seen[0].previews is value


def test_image_is_resized_to_the_requested_size(service: Running) -> None:
    image = in_base64(packed(gradient(100, 30)))
    fields = {"prompt": "x", "image": image, "width": 128, "height": 64}
    response = service.client.post("/v1/img2img", json=fields)
    assert response.status_code == 200, response.text
    assert opened(response.json()["images"][0]["base64"]).size == (128, 64)


def test_inpaint_changes_white_pixels_only(service: Running) -> None:
    files = {"image": packed(gradient()), "mask": packed(left_half_white())}
    in_json = {key: in_base64(data) for key, data in files.items()}
    responses = [
        service.client.post("/v1/inpaint", json={"prompt": "x", **in_json}),
        service.client.post("/v1/inpaint", data={"prompt": "x"}, files=files),
    ]
    expected = gradient()
    expected.paste(RED, (0, 0, 32, 64))
    for response in responses:
        assert response.status_code == 200, response.text
        assert same(opened(response.json()["images"][0]["base64"]), expected)


def test_respond_async_gives_a_job(service: Running) -> None:
    service.worker.hold()
    response = service.client.post("/v1/txt2img", json={"prompt": "x", "seed": 1}, headers=ASYNC)
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    job = response.json()
    assert (job["state"], job["position"]) == ("queued", 0)
    location = response.headers["location"]
    assert location == f"/v1/jobs/{job['id']}"
    service.worker.release()
    with service.client.stream("GET", f"{location}/events") as events:
        events.read()
    result = service.client.get(location).json()["result"]
    assert result["images"][0]["seed"] == 1
    assert opened(httpx.get(result["images"][0]["url"], timeout=60).content).size == (64, 64)


def test_respond_async_with_wait(service: Running) -> None:
    headers = {"Prefer": "respond-async, wait=20"}
    response = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers)
    assert response.status_code == 200


def test_timeout_response_has_the_job(service: Running) -> None:
    service.worker.hold()
    response = service.client.post(
        "/v1/txt2img", json={"prompt": "x"}, headers={"Prefer": "wait=0"}
    )
    assert response.status_code == 504
    problem = response.json()
    assert problem["type"].endswith(":deadline-exceeded")
    assert response.headers["location"] == problem["job"]
    service.worker.release()
    with service.client.stream("GET", f"{problem['job']}/events") as events:
        events.read()
    assert service.client.get(problem["job"]).json()["state"] == "finished"


def test_16_bit_grey_upright_and_transparent_images(service: Running) -> None:
    def sent(data: bytes) -> Image.Image:
        fields = {"prompt": "x", "image": in_base64(data), "width": 64, "height": 64}
        response = service.client.post("/v1/img2img", json=fields)
        assert response.status_code == 200, response.text
        return opened(response.json()["images"][0]["base64"])

    grey = Image.new("I;16", (64, 64), 128 * 256)
    assert sent(packed(grey)).getpixel((5, 5)) == (128, 128, 128)
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert sent(packed(clear)).getpixel((5, 5)) == (255, 255, 255)
    palette = gradient().convert("P")
    assert same(sent(packed(palette)), palette.convert("RGB"))
    ink = Image.new("CMYK", (64, 64), (0, 0, 0, 0))
    assert sent(packed(ink, "JPEG")).getpixel((5, 5)) == (255, 255, 255)
    # Orientation 6: the first row of the file is the right-hand side of the image.
    rotated = Image.new("RGB", (64, 64), "white")
    rotated.paste((0, 0, 0), (0, 0, 64, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = sent(packed(rotated, "PNG", exif=exif))
    assert upright.getpixel((60, 30)) == (0, 0, 0)
    assert upright.getpixel((30, 4)) == (255, 255, 255)
