"""A recipe read from a file gives the same pixels again, with the bundled model over HTTP."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import piexif
import piexif.helper
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from protocol.request.object_keys import OutputFormat
from tests.golden.inputs import png, scene, with_images
from tests.golden.service import running_service

pytestmark = pytest.mark.early

Body = dict[str, Any]

QUICK = {"width": 48, "height": 48, "steps": 3, "seed": 300}
TXT2IMG: Body = {
    **QUICK, "prompt": "a (red:1.3) <lora:paint:0.7>heart, \"big\": one", "n": 2,
    "negative_prompt": "blue, green", "sampler": "dpmpp_2m", "schedule": "karras-leading",
    "loras": [{"name": "grain", "weight": 0.5}], "hires_scale": 1.4, "hires_steps": 4,
    "hires_strength": 0.6, "guidance_scale": 4.5, "clip_skip": 1, "guidance_end": 0.8,
}  # fmt: skip
# fmt: off
IMG2IMG: Body = {**QUICK, "prompt": "a star", "image": "@scene", "strength": 0.7,
                 "sampler": "ddim", "eta": 0.3, "resize_mode": "crop", "noise_multiplier": 0.9}
# fmt: on
INPAINT: Body = {
    **QUICK,
    "prompt": "a moon",
    "image": "@scene",
    "mask": "@disc",
    "mask_blur": 2,
    "inpaint_area": "masked",
    "mask_padding": 8,
    "masked_content": "fill",
}  # fmt: skip
PADDED: Body = {"prompt": "a lemon", "image": png(scene(61, 45)), "steps": 3, "seed": 4}
CONTROL = {"model": "stripes", "image": "@stripes", "weight": 0.9}
CONTROLLED: Body = {**QUICK, "prompt": "a key", "controls": [CONTROL]}
TURBO: Body = {"prompt": "a lion <lora:turbo>", "width": 48, "height": 48, "seed": 5}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with running_service() as client:
        yield client


def generated(client: httpx.Client, task: str, body: Body) -> list[bytes]:
    response = client.post(f"/v1/{task}", json=with_images(body))
    assert response.status_code == 200, response.text
    return [base64.b64decode(image["base64"]) for image in response.json()["images"]]


def read(client: httpx.Client, file: bytes) -> dict[str, Any]:
    found: dict[str, Any] = client.post("/v1/read", files={"image": ("a", file)}).json()
    return found


def pixels(file: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def with_infotext_only(file: bytes) -> bytes:
    """Return the image as AUTOMATIC1111 would save it: with its text alone, by other packages."""
    image = Image.open(io.BytesIO(file))
    saved, kind = io.BytesIO(), str(image.format)
    if kind == "PNG":
        info = PngInfo()
        info.add_text("parameters", image.info["parameters"])
        image.save(saved, kind, pnginfo=info)
    else:
        tags = piexif.load(image.info["exif"])["Exif"]
        text = piexif.helper.UserComment.load(tags[piexif.ExifIFD.UserComment])
        value = piexif.helper.UserComment.dump(text, encoding="unicode")
        image.save(saved, kind, exif=piexif.dump({"Exif": {piexif.ExifIFD.UserComment: value}}))
    return saved.getvalue()


def files_of(body: Body, needs: list[str]) -> Body:
    """Return the files that a recipe needs, taken from the body that it is the recipe of."""
    return {name: body[name] for name in needs if name in body}


@pytest.mark.parametrize("only_infotext", [False, True], ids=["ours", "infotext"])
@pytest.mark.parametrize("output_format", [one.value for one in OutputFormat])
def test_recipe_of_each_format_gives_the_same_pixels(
    client: httpx.Client, output_format: str, only_infotext: bool
) -> None:
    body = TXT2IMG | {"output_format": output_format, "quality": 60}
    _, second = generated(client, "txt2img", body)
    found = read(client, with_infotext_only(second) if only_infotext else second)
    assert (found["source"], found["task"], found["needs"]) == ("darkroom", "txt2img", [])
    assert found["request"]["seed"] == 301
    [again] = generated(client, found["task"], found["request"])
    assert Image.open(io.BytesIO(again)).format == Image.open(io.BytesIO(second)).format
    assert np.array_equal(pixels(again), pixels(second))
    if not only_infotext:
        assert again == second


@pytest.mark.parametrize("only_infotext", [False, True], ids=["ours", "infotext"])
@pytest.mark.parametrize(
    ("task", "body", "needs"),
    [
        ("img2img", IMG2IMG, ["image"]),
        ("img2img", PADDED, ["image"]),
        ("inpaint", INPAINT, ["image", "mask"]),
        ("txt2img", CONTROLLED, ["controls.0.image"]),
        ("upscale", {"image": "@scene", "upscaler": "lanczos", "scale": 1.5}, ["image"]),
        ("txt2img", TURBO, []),
    ],
    ids=["img2img", "padded", "inpaint", "controlnet", "upscale", "turbo"],
)
def test_recipe_names_the_files_that_it_needs(
    client: httpx.Client, task: str, body: Body, needs: list[str], only_infotext: bool
) -> None:
    [file] = generated(client, task, body)
    found = read(client, with_infotext_only(file) if only_infotext else file)
    assert (found["task"], found["needs"]) == (task, needs)
    request = found["request"] | files_of(body, needs)
    if "controls" in request:
        request["controls"][0]["image"] = body["controls"][0]["image"]
    [again] = generated(client, task, request)
    assert np.array_equal(pixels(again), pixels(file))


def test_image_without_its_recipe_has_the_same_pixels(client: httpx.Client) -> None:
    [file] = generated(client, "txt2img", QUICK | {"prompt": "a secret canary"})
    [bare] = generated(client, "txt2img", QUICK | {"prompt": "a secret canary", "metadata": False})
    assert np.array_equal(pixels(file), pixels(bare))
    assert b"canary" in file
    assert b"canary" not in bare
    assert read(client, bare) == {"needs": [], "parameters": {}, "texts": {}}
