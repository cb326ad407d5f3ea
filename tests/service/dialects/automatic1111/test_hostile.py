"""Hostile requests get an error in AUTOMATIC1111's form, or are accepted: never a 5xx."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.conftest import MAX_BODY_BYTES, Running, running
from tests.service.dialects.automatic1111.webui import IMAGE, MASK, WEBUI_CARD
from tests.service.sample_images import in_base64, png_chunk
from tests.support.redis_server import RedisServer

ROUTES = (
    *("/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/extra-single-image"),
    *("/sdapi/v1/extra-batch-images", "/sdapi/v1/png-info", "/sdapi/v1/options"),
    *("/internal/progress", "/controlnet/detect", "/controlnet/render_openpose_json"),
)
SAMPLE = "/sdapi/v1/img2img"
VALUES: list[Any] = [
    *(None, True, 0, -1, 2**31, 2**63, -(2**70), 10**40, 1e-320, 1e308, "", " ", "x", "1e999"),
    *("NaN", "\0", "\ud800", "9" * 400, "../../etc/passwd", "<script>", "file:///etc/passwd"),
    *("http://169.254.169.254/", [], [[]], [None], {}, {"args": [{"image": {}}]}, [{"data": 1}]),
    *({"ControlNet": {"args": [{"image": IMAGE, "model": []}]}}, {"sd_model_checkpoint": {}}),
    *([IMAGE, IMAGE], [IMAGE, {}], [IMAGE] * 1000, ["http://169.254.169.254/"] * 2, [IMAGE, "\0"]),
    {"ControlNet": {"args": [{"image": IMAGE[:-9], "model": "canny", "module": "invert"}]}},
]
FIELDS = (
    *("prompt", "seed", "steps", "width", "cfg_scale", "batch_size", "n_iter", "sampler_name"),
    *("scheduler", "styles", "override_settings", "alwayson_scripts", "script_name", "mask"),
    *("init_images", "denoising_strength", "inpainting_fill", "mask_blur", "infotext", "image"),
    *("imageList", "upscaling_resize", "upscaler_1", "id_task", "controlnet_input_images"),
    *("sd_model_checkpoint", "samples_format", "force_task_id", "subseed_strength"),
    *("controlnet_module", "controlnet_threshold_a"),
)
POSE_FIELDS = ("people", "canvas_width", "canvas_height")
PERSON_FIELDS = ("pose_keypoints_2d", "hand_left_keypoints_2d", "face_keypoints_2d")
BODIES = {
    "empty": b"",
    "space": b" \n",
    "a list": b"[]",
    "a number": b"1",
    "broken": b'{"prompt": ',
    "not UTF-8": b'{"prompt": "\xff"}',
    "NaN": b'{"steps": NaN}',
    "a key twice": b'{"prompt": "x", "prompt": "y"}',
    "deep": b'{"styles": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "many": b'{"styles": [' + b"0," * 250_000 + b"0]}",
    "a form": b"--b\r\nContent-Disposition: form-data; name=prompt\r\n\r\nx\r\n--b--\r\n",
    "too large": b'{"prompt": "' + b"x" * MAX_BODY_BYTES + b'"}',
    "a long prompt": json.dumps({"prompt": "[a:b:" * 20_000}).encode(),
    "a bomb": json.dumps(
        {
            "init_images": [
                in_base64(
                    b"\x89PNG\r\n\x1a\n"
                    + png_chunk(b"IHDR", b"\0\0\x75\x30\0\0\x75\x30\x08\x02\0\0\0")
                    + png_chunk(b"IDAT", zlib.compress(bytes(2**22), 9))
                )
            ]
        }
    ).encode(),
}


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, WEBUI_CARD) as service:
        yield service


def check(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    body = response.json()
    if response.status_code >= 400:
        assert body.keys() == {"error", "detail", "body", "errors"}
        assert isinstance(body["detail"], str)
        assert len(response.content) < 2000
        assert "Traceback" not in response.text


@pytest.mark.parametrize(
    "route",
    [route if route == SAMPLE else pytest.param(route, marks=pytest.mark.long) for route in ROUTES],
)
def test_wrong_values_of_every_field(webui: Running, route: str) -> None:
    base = {"prompt": "x", "steps": 1, "image": IMAGE, "init_images": [IMAGE], "send_images": False}
    for field in FIELDS:
        for value in VALUES:
            body = json.dumps({**base, field: value}).encode()
            check(webui.client.post(route, content=body))


def test_wrong_values_of_poses(webui: Running) -> None:
    person = {"pose_keypoints_2d": [0.5] * 54}
    canvas = {"people": [person], "canvas_width": 64, "canvas_height": 64}
    wrong: list[Any] = [{**canvas, field: value} for field in POSE_FIELDS for value in VALUES]
    numbers = [[value] * 54 for value in (*VALUES, [0.5])]
    wrong += [
        {**canvas, "people": [{**person, field: value}]}
        for field in PERSON_FIELDS
        for value in (*VALUES, *numbers)
    ]
    for one in (*wrong, *VALUES):
        body = json.dumps([canvas, one]).encode()
        check(webui.client.post("/controlnet/render_openpose_json", content=body))


@pytest.mark.parametrize("name", BODIES)
def test_wrong_bodies(webui: Running, name: str) -> None:
    for route in ROUTES:
        check(webui.client.post(route, content=BODIES[name]))


def test_masks_that_do_not_fit(webui: Running) -> None:
    for mask in (MASK[: len(MASK) // 2], "x", MASK + "!", in_base64(b"GIF89a")):
        body = {"prompt": "x", "init_images": [IMAGE], "mask": mask}
        response = webui.client.post("/sdapi/v1/img2img", json=body)
        check(response)
        assert response.status_code == 422


def test_the_service_still_works(webui: Running) -> None:
    assert webui.client.post("/sdapi/v1/txt2img", json={"prompt": "x"}).status_code == 200
