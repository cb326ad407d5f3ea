"""Pictures by HTTP: every task, content type, file format and way of answering."""

import httpx
import pytest
from PIL import Image

from protocol.request.fields import SEED_LIMIT
from tests.service.conftest import Running
from tests.service.fake_worker import RED
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

ASYNC = {"Prefer": "respond-async"}


def test_txt2img_answers_with_the_picture(service: Running) -> None:
    answer = service.client.post("/v1/txt2img", json={"prompt": "a red heart", "seed": 7})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["timings"]["denoise"] == 0.5
    (image,) = body["images"]
    assert (image["seed"], image["width"], image["height"]) == (7, 64, 64)
    assert opened(image["base64"]).size == (64, 64)
    assert "url" not in image


def test_absent_fields_take_the_models_defaults(service: Running) -> None:
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
    answer = service.client.post("/v1/txt2img", json=fields)
    assert answer.status_code == 200, answer.text
    (request,) = service.worker.seen
    told = request.model_dump(mode="json", exclude_defaults=True)
    assert told == {key: value for key, value in fields.items() if key != "response"} | {
        "task": "txt2img"
    }
    assert [image["seed"] for image in answer.json()["images"]] == [SEED_LIMIT - 1, 0, 1]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_by_url(service: Running, kind: str) -> None:
    fields = {"prompt": "x", "response": "url", "output_format": kind}
    (image,) = service.client.post("/v1/txt2img", json=fields).json()["images"]
    answer = httpx.get(image["url"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{kind}"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.content) == image["bytes"]
    assert (opened(answer.content).format or "").lower() == kind


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_img2img_in_json(service: Running, prefix: str) -> None:
    fields = {"prompt": "x", "image": prefix + in_base64(packed(gradient())), "strength": 0.5}
    answer = service.client.post("/v1/img2img", json=fields)
    assert answer.status_code == 200, answer.text
    assert same(opened(answer.json()["images"][0]["base64"]), gradient())
    assert service.worker.seen[0].strength == 0.5


def test_img2img_as_a_form(service: Running) -> None:
    answer = service.client.post(
        "/v1/img2img",
        data={"prompt": "x", "steps": "6", "strength": "0.5", "seed": "3", "guidance_scale": "2"},
        files={"image": ("in.png", packed(gradient()), "image/png")},
    )
    assert answer.status_code == 200, answer.text
    (request,) = service.worker.seen
    assert (request.steps, request.strength, request.guidance_scale) == (6, 0.5, 2.0)
    assert same(opened(answer.json()["images"][0]["base64"]), gradient())


def test_txt2img_as_a_form(service: Running) -> None:
    answer = service.client.post("/v1/txt2img", files={"prompt": (None, "42")})
    assert answer.status_code == 200, answer.text
    assert service.worker.seen[0].prompt == "42"


def test_an_image_is_stretched_to_the_size_asked_for(service: Running) -> None:
    image = in_base64(packed(gradient(100, 30)))
    fields = {"prompt": "x", "image": image, "width": 128, "height": 64}
    answer = service.client.post("/v1/img2img", json=fields)
    assert answer.status_code == 200, answer.text
    assert opened(answer.json()["images"][0]["base64"]).size == (128, 64)


def test_inpaint_repaints_what_is_white(service: Running) -> None:
    files = {"image": packed(gradient()), "mask": packed(left_half_white())}
    in_json = {key: in_base64(data) for key, data in files.items()}
    answers = [
        service.client.post("/v1/inpaint", json={"prompt": "x", **in_json}),
        service.client.post("/v1/inpaint", data={"prompt": "x"}, files=files),
    ]
    wanted = gradient()
    wanted.paste(RED, (0, 0, 32, 64))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert same(opened(answer.json()["images"][0]["base64"]), wanted)


def test_respond_async_gives_a_job(service: Running) -> None:
    service.worker.hold()
    answer = service.client.post("/v1/txt2img", json={"prompt": "x", "seed": 1}, headers=ASYNC)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    job = answer.json()
    assert (job["state"], job["position"]) == ("queued", 0)
    location = answer.headers["location"]
    assert location == f"/v1/jobs/{job['id']}"
    service.worker.release()
    with service.client.stream("GET", f"{location}/events") as events:
        events.read()
    result = service.client.get(location).json()["result"]
    assert result["images"][0]["seed"] == 1
    assert opened(httpx.get(result["images"][0]["url"]).content).size == (64, 64)


def test_respond_async_may_wait_a_little_first(service: Running) -> None:
    headers = {"Prefer": "respond-async, wait=20"}
    answer = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers=headers)
    assert answer.status_code == 200


def test_a_client_that_would_wait_too_long_is_told_where_the_job_is(service: Running) -> None:
    service.worker.hold()
    answer = service.client.post("/v1/txt2img", json={"prompt": "x"}, headers={"Prefer": "wait=0"})
    assert answer.status_code == 504
    problem = answer.json()
    assert problem["type"].endswith(":deadline-exceeded")
    assert answer.headers["location"] == problem["job"]
    service.worker.release()
    with service.client.stream("GET", f"{problem['job']}/events") as events:
        events.read()
    assert service.client.get(problem["job"]).json()["state"] == "finished"


def test_16_bit_grey_upright_and_transparent_images(service: Running) -> None:
    def sent(data: bytes) -> Image.Image:
        fields = {"prompt": "x", "image": in_base64(data), "width": 64, "height": 64}
        answer = service.client.post("/v1/img2img", json=fields)
        assert answer.status_code == 200, answer.text
        return opened(answer.json()["images"][0]["base64"])

    grey = Image.new("I;16", (64, 64), 128 * 256)
    assert sent(packed(grey)).getpixel((5, 5)) == (128, 128, 128)
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert sent(packed(clear)).getpixel((5, 5)) == (255, 255, 255)
    palette = gradient().convert("P")
    assert same(sent(packed(palette)), palette.convert("RGB"))
    ink = Image.new("CMYK", (64, 64), (0, 0, 0, 0))
    assert sent(packed(ink, "JPEG")).getpixel((5, 5)) == (255, 255, 255)
    # Orientation 6: the camera was turned, the first row is the right-hand side.
    turned = Image.new("RGB", (64, 64), "white")
    turned.paste((0, 0, 0), (0, 0, 64, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = sent(packed(turned, "PNG", exif=exif))
    assert upright.getpixel((60, 30)) == (0, 0, 0)
    assert upright.getpixel((30, 4)) == (255, 255, 255)
