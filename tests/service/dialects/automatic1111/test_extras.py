"""Upscaling, the texts of images, and control images, by HTTP."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.service.conftest import Running, running
from tests.service.dialects.automatic1111.webui import (
    DATA_URI,
    IMAGE,
    WEBUI_CARD,
    post,
    refused,
)
from tests.service.sample_images import gradient, in_base64, opened, packed
from tests.support.redis_server import RedisServer

INFOTEXT = "a cat\nNegative prompt: dog\nSteps: 5, Sampler: Euler a, Seed: 7, Size: 64x96"


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, WEBUI_CARD) as service:
        yield service


def image_of(answer: Any) -> Image.Image:
    return opened(base64.b64decode(answer["image"], validate=True))


def with_infotext(text: str) -> str:
    buffer = io.BytesIO()
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", text)
    texts.add_text("Software", "x")
    gradient().save(buffer, "PNG", pnginfo=texts)
    return in_base64(buffer.getvalue())


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        ({}, (64, 64)),  # the upscaler is None
        ({"upscaler_1": "4x-net"}, (128, 128)),
        ({"upscaler_1": "Lanczos", "upscaling_resize": 3}, (192, 192)),
        ({"upscaler_1": "Lanczos", "upscaling_resize": 0.5}, (32, 32)),
        (
            {
                "upscaler_1": "Nearest",
                "resize_mode": 1,
                "upscaling_resize_w": 100,
                "upscaling_resize_h": 80,
            },
            (100, 80),
        ),
        (
            {
                "upscaler_1": "Nearest",
                "resize_mode": 1,
                "upscaling_resize_w": 100,
                "upscaling_resize_h": 80,
                "upscaling_crop": False,
            },
            (100, 100),
        ),
    ],
)
def test_an_image_gets_its_size(webui: Running, sent: Any, size: tuple[int, int]) -> None:
    answer = post(webui.client, "extra-single-image", image=DATA_URI + IMAGE, **sent)
    assert answer.keys() == {"html_info", "image"}
    assert image_of(answer).size == size


def test_without_an_upscaler_the_pixels_stay(webui: Running) -> None:
    answer = post(webui.client, "extra-single-image", image=IMAGE, upscaler_1="None")
    assert (np.asarray(image_of(answer)) == np.asarray(gradient())).all()


def test_two_upscalers(webui: Running) -> None:
    sent = {"image": IMAGE, "upscaler_1": "4x-net", "upscaler_2": "Lanczos"}
    post(webui.client, "extra-single-image", **sent, extras_upscaler_2_visibility=0.25)
    upscaling = webui.worker.seen[-1].upscaling
    assert upscaling is not None
    assert (upscaling.upscaler, upscaling.upscaler_2) == ("4x-net", "lanczos")
    assert upscaling.blend == 0.25
    post(webui.client, "extra-single-image", **sent)  # a visibility of 0
    upscaling = webui.worker.seen[-1].upscaling
    assert upscaling is not None
    assert upscaling.upscaler_2 is None


def test_several_images_in_their_order(webui: Running) -> None:
    sizes = ((16, 32), (32, 16), (24, 24))
    images = [
        {"data": in_base64(packed(gradient(*size))), "name": f"{i}.png"}
        for i, size in enumerate(sizes)
    ]
    answer = post(webui.client, "extra-batch-images", imageList=images, upscaler_1="Lanczos")
    assert answer.keys() == {"html_info", "images"}
    found = [opened(base64.b64decode(image)).size for image in answer["images"]]
    assert found == [(2 * width, 2 * height) for width, height in sizes]


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ({"upscaler_1": "LDSR"}, 'upscaler_1 is "LDSR", but must be one of lanczos, nearest'),
        ({"upscaler_1": "Lanczos", "upscaling_resize": 99}, "upscaling_resize is 99"),
        ({"upscaling_resize": 0}, "upscaling_resize is 0.0, but must be above 0"),
        ({"gfpgan_visibility": 1}, "gfpgan_visibility is 1.0, but must be 0"),
        ({"resize_mode": 2}, "resize_mode is 2"),
        ({"image": "x"}, 'image is "x"'),
        ({"image": None}, "image is"),
        ({"upscaler_1": "Lanczos", "image": "http://localhost/x.png"}, "image is"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(webui: Running, sent: Any, detail: str) -> None:
    status, found = refused(webui.client, "extra-single-image", **{"image": IMAGE, **sent})
    assert status == 422
    assert found.startswith(detail)


def test_a_batch_names_its_image(webui: Running) -> None:
    images = [{"data": IMAGE}, {"data": "!"}]
    status, detail = refused(
        webui.client, "extra-batch-images", imageList=images, upscaler_1="Lanczos"
    )
    assert (status, detail.split()[0]) == (422, "imageList.1.data")
    many = [{"data": IMAGE}] * 17
    assert refused(webui.client, "extra-batch-images", imageList=many)[0] == 422


def test_the_infotext_of_an_image_is_read(webui: Running) -> None:
    answer = post(webui.client, "png-info", image=DATA_URI + with_infotext(INFOTEXT))
    assert answer["info"] == INFOTEXT
    assert answer["items"] == {"Software": "x"}
    found = answer["parameters"]
    assert (found["Prompt"], found["Negative prompt"]) == ("a cat", "dog")
    assert (found["Seed"], found["Size-1"], found["Size-2"]) == ("7", "64", "96")
    assert (found["Clip skip"], found["Schedule type"]) == ("1", "Automatic")


def test_an_image_without_infotext(webui: Running) -> None:
    assert post(webui.client, "png-info", image=IMAGE) == {
        "info": "",
        "items": {},
        "parameters": {},
    }
    assert refused(webui.client, "png-info", image="x")[0] == 422
    assert refused(webui.client, "png-info")[0] == 422


def test_detection_without_a_preprocessor_returns_the_images(webui: Running) -> None:
    for name in ("controlnet_input_images", "controlnet_images"):
        answer = post(webui.client, "/controlnet/detect", **{name: [DATA_URI + IMAGE, IMAGE]})
        assert answer == {"info": "Success", "images": [IMAGE, IMAGE]}


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (
            {"controlnet_module": "canny", "controlnet_input_images": [IMAGE]},
            "Module not available",
        ),
        ({"controlnet_module": "none"}, "No image selected"),
        ({"controlnet_input_images": ["x"]}, "controlnet_input_images.0 is"),
    ],
)
def test_detections_that_are_refused(webui: Running, sent: Any, detail: str) -> None:
    response = webui.client.post("/controlnet/detect", json=sent)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(detail)
