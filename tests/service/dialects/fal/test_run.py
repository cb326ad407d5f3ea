"""POST /fal/run/{owner}/{alias}: images of a request that waits for them."""

import pytest

from protocol.errors import JobFailed
from protocol.request.request import Task
from service.dialects.fal.sizes import NAMED, size_fields
from tests.service.conftest import CARD, Running
from tests.service.dialects.fal.asking import APP, RUN, check_error, events, ran
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

IMAGE = "data:image/png;base64," + in_base64(packed(gradient(64, 48)))
MASK = "data:image/png;base64," + in_base64(packed(left_half_white(64, 48)))


def test_answer(fal: Running) -> None:
    response = fal.client.post(RUN, json={"prompt": "a cat", "seed": 7, "num_images": 2})
    body = response.json()
    assert body.keys() == {"images", "seed", "prompt", "has_nsfw_concepts", "timings"}
    assert (body["seed"], body["prompt"], body["has_nsfw_concepts"]) == (7, "a cat", [False] * 2)
    assert response.headers["x-fal-request-id"] in body["images"][0]["url"]
    native = fal.client.post("/v1/txt2img", json={"prompt": "a cat", "seed": 7, "n": 2}).json()
    for image, expected in zip(body["images"], native["images"], strict=True):
        assert (image["width"], image["height"], image["content_type"]) == (64, 64, "image/png")
        file = fal.client.get(image["url"]).content
        assert len(file) == image["file_size"]
        assert same(opened(file), opened(expected["base64"]))


def test_sync_mode_gives_data_uris(fal: Running) -> None:
    body = ran(fal, seed=7, sync_mode=True, output_format="webp")[0]
    head, _, data = body["images"][0]["url"].partition(",")
    assert (head, opened(data).format) == ("data:image/webp;base64", "WEBP")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_inference_steps": 9, "guidance_scale": "3"}, {"steps": 9, "guidance_scale": 3.0}),
        ({"negative_prompt": "a dog", "num_images": "2"}, {"negative_prompt": "a dog", "n": 2}),
        ({"scheduler": "Euler", "acceleration": "high"}, {"sampler": "euler"}),
        ({"image_size": {"width": 128, "height": "64"}}, {"width": 128, "height": 64}),
        ({"image_size": "", "seed": None, "loras": []}, {"width": 64, "height": 64}),
        ({"enable_safety_checker": False, "output_format": "jpeg"}, {"output_format": "jpeg"}),
        ({"image_url": None, "mask_url": "", "image_urls": []}, {"task": Task.TXT2IMG}),
        ({"sync_mode": 5, "expand_prompt": True, "clip_skip": 1}, {"clip_skip": 1}),
    ],
)
def test_fields(fal: Running, fields: dict[str, object], expected: dict[str, object]) -> None:
    request = ran(fal, **fields)[1]
    assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize("name", NAMED)
def test_named_sizes(fal: Running, name: str) -> None:
    """A size that the model cannot generate means the best one of its aspect."""
    request = ran(fal, image_size=name)[1]
    width, height = NAMED[name]
    assert request.width / request.height == pytest.approx(width / height, rel=0.1)
    able = CARD.model_copy(update={"max_side": 2048, "max_pixels": 2**22})
    assert size_fields(name, able)[0] == {"width": width, "height": height}


@pytest.mark.parametrize(("header", "priority"), [("low", "low"), ("normal", "normal")])
def test_priority(fal: Running, header: str, priority: str) -> None:
    body = {"prompt": "a cat"}
    response = fal.client.post(RUN, json=body, headers={"X-Fal-Queue-Priority": header})
    assert response.status_code == 200
    assert fal.worker.seen[-1].priority == priority


@pytest.mark.parametrize("field", ["image_url", "image_urls"])
def test_changes_an_image(fal: Running, field: str) -> None:
    value = [IMAGE] if field == "image_urls" else IMAGE
    body, request = ran(fal, **{field: value}, strength=0.5, sync_mode=True)
    assert (request.task, request.strength) == (Task.IMG2IMG, 0.5)
    assert same(opened(body["images"][0]["url"].partition(",")[2]), gradient(64, 48))


def test_changes_a_finished_image(fal: Running) -> None:
    """An address of this service is read, although others are not fetched."""
    first = ran(fal, seed=7)[0]["images"][0]["url"]
    again = ran(fal, image_url=first, sync_mode=True)[0]["images"][0]["url"]
    assert same(opened(fal.client.get(first).content), opened(again.partition(",")[2]))
    response = fal.client.post(RUN, json={"image_url": "https://example.org/a.png"})
    [wrong] = check_error(response, 422)
    assert wrong["loc"] == ["body", "image_url"]


def test_a_mask_marks_what_is_generated(fal: Running) -> None:
    body, request = ran(fal, image_url=IMAGE, mask_url=MASK, sync_mode=True)
    assert request.task is Task.INPAINT
    image = opened(body["images"][0]["url"].partition(",")[2])
    assert (image.getpixel((10, 10)), image.getpixel((60, 10))) == ((255, 0, 0), (120, 20, 70))


def test_the_app_may_name_the_task(fal: Running) -> None:
    def task(path: str) -> Task:
        body = {"prompt": "x", "image_url": IMAGE, "mask_url": MASK}
        assert fal.client.post(f"{RUN}/{path}", json=body).status_code == 200
        return fal.worker.seen[-1].task

    assert task("text-to-image") is Task.TXT2IMG
    assert task("image-to-image") is Task.IMG2IMG
    assert task("inpainting") is Task.INPAINT
    missing = fal.client.post(f"{RUN}/image-to-image", json={"prompt": "x"})
    assert check_error(missing, 422)[0]["loc"] == ["body", "image_url"]
    check_error(fal.client.post(f"{RUN}/dev", json={"prompt": "x"}), 404)
    check_error(fal.client.post("/fal/run/tiny/nope", json={"prompt": "x"}), 404)


@pytest.mark.parametrize(
    ("fields", "loc"),
    [
        ({"num_inference_steps": 99}, ["num_inference_steps"]),
        ({"num_images": 5}, ["num_images"]),
        ({"image_size": {"width": 67, "height": 64}}, ["image_size", "width"]),
        ({"image_size": {"width": 64}}, ["image_size"]),
        ({"image_size": "huge"}, ["image_size"]),
        ({"prompt": 5}, ["prompt"]),
        ({"prompt": None}, ["prompt"]),
        ({"prompt": None, "image_url": IMAGE, "strength": 2}, ["strength"]),
        ({"image_url": 5}, ["image_url"]),
        ({"image_url": "data:image/png;base64,!"}, ["image_url"]),
        ({"image_url": IMAGE, "mask_url": "x"}, ["mask_url"]),
        ({"image_urls": [IMAGE, IMAGE]}, ["image_urls"]),
        ({"image_urls": "x"}, ["image_urls"]),
        ({"loras": [{"path": "unknown", "scale": 1}]}, ["loras"]),
        ({"output_format": "gif"}, ["output_format"]),
    ],
)
def test_what_cannot_be_done(fal: Running, fields: dict[str, object], loc: list[str]) -> None:
    response = fal.client.post(RUN, json={"prompt": "a cat", **fields})
    [wrong] = check_error(response, 422)
    assert wrong.keys() == {"loc", "msg", "type"}
    assert wrong["loc"][: len(loc) + 1] == ["body", *loc]


def test_wrong_priority(fal: Running) -> None:
    headers = {"X-Fal-Queue-Priority": "urgent"}
    check_error(fal.client.post(RUN, json={"prompt": "x"}, headers=headers), 422)


def test_failures(fal: Running) -> None:
    fal.worker.error = JobFailed("the worker died while it ran")
    try:
        response = fal.client.post(RUN, json={"prompt": "a cat"})
        assert "the worker died" in check_error(response, 500)
        [*_, last] = events(fal.client.post(f"{RUN}/stream", json={"prompt": "a cat"}))
        assert "the worker died" in last["detail"]
    finally:
        fal.worker.error = None
    assert response.headers["x-fal-request-id"] == fal.worker.jobs[-2]


def test_stream(fal: Running) -> None:
    response = fal.client.post(f"{RUN}/stream", json={"prompt": "a cat", "seed": 7})
    *partial, result = events(response)
    for event in partial:
        assert event.keys() == {"images", "step", "steps"}
        assert event["images"][0]["url"].startswith("data:image/jpeg;base64,")
    assert (result["seed"], len(result["images"])) == (7, 1)
    assert response.headers["x-fal-request-id"] in result["images"][0]["url"]
    check_error(fal.client.post(f"{RUN}/stream", json={"prompt": 5}), 422)


def test_errors_at_the_door(fal: Running) -> None:
    check_error(fal.client.get("/fal/nothing"), 404)
    check_error(fal.client.get(f"/fal/run/{APP}"), 405)
    check_error(fal.client.post(RUN, content=b" " * 2**21), 413)
    check_error(fal.client.post(RUN, json={}, headers={"Host": "evil.example"}), 421)
    check_error(fal.client.post(RUN, content=b"[]"), 400)
