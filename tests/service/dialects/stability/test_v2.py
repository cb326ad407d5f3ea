"""Version 2: generate, edit and upscale."""

from typing import Any

import pytest

from tests.service.conftest import Running
from tests.service.dialects.stability.asking import V2, check_error, native, v2
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed

IMAGE, MASK = packed(gradient()), packed(left_half_white())
UNCHANGED = {"mask_grow": 0, "mask_blur": 0}
ROUTES = ("generate/core", "generate/ultra", "generate/sd3")


def image(response: Any) -> str:
    assert response.status_code == 200, response.text
    body = response.json()
    assert body.keys() == {"image", "seed", "finish_reason"}
    assert body["finish_reason"] == "SUCCESS"
    return str(body["image"])


def same(service: Running, response: Any, task: str, **fields: object) -> None:
    """Check that a request was the native one, and its image that of the native API."""
    asked = service.worker.seen[-1]
    ours, expected = native(service, task, **fields)
    assert asked == expected
    assert image(response) == ours


@pytest.mark.parametrize("route", ROUTES)
def test_generate(stability: Running, route: str) -> None:
    fields = {"prompt": "a cat", "negative_prompt": "a dog", "seed": 7}
    response = v2(stability, route, **fields, output_format="webp", model="sd3.5-large")
    same(stability, response, "txt2img", **fields, output_format="webp")
    assert opened(image(response)).format == "WEBP"


@pytest.mark.parametrize(
    ("ratio", "shape"), [("1:1", 1.0), ("16:9", 16 / 9), ("9:21", 9 / 21), ("4:5", 4 / 5)]
)
def test_aspects(stability: Running, ratio: str, shape: float) -> None:
    sent = v2(stability, "generate/core", prompt="a cat", aspect_ratio=ratio)
    width, height = opened(image(sent)).size
    assert width / height == pytest.approx(shape, rel=0.15)


def test_the_file_itself(stability: Running) -> None:
    for accept in ("image/*", "*/*", ""):
        form = {"prompt": "a cat", "seed": "9", "output_format": "jpeg"}
        headers = {"Accept": accept}
        response = stability.client.post(
            f"{V2}/generate/core", data=form, files={"none": ""}, headers=headers
        )
        assert response.headers["content-type"] == "image/jpeg"
        assert response.headers["seed"] == "9"
        assert response.headers["finish-reason"] == "SUCCESS"
        assert opened(response.content).format == "JPEG"
    headers = {"Accept": "image/png"}
    response = stability.client.post(
        f"{V2}/generate/core", data=form, files={"none": ""}, headers=headers
    )
    assert "output_format is" in check_error(response, 400, "bad_request")


@pytest.mark.parametrize("mode", [{}, {"mode": "image-to-image"}])
def test_an_image_and_a_prompt(stability: Running, mode: dict[str, str]) -> None:
    fields = {"prompt": "a cat", "strength": 0.5, "seed": 7}
    response = v2(stability, "generate/sd3", image=IMAGE, **fields, **mode)
    same(stability, response, "img2img", image=in_base64(IMAGE), **fields)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"mode": "image-to-image"}, "image is missing"),
        ({"mode": "text-to-image", "image": IMAGE}, "image is"),
        ({"image": IMAGE, "aspect_ratio": "1:1"}, "aspect_ratio is"),
        ({"strength": 0.5}, "strength is 0.5"),
        ({"aspect_ratio": "wide"}, "aspect_ratio is"),
        ({"prompt": ""}, "prompt is missing"),
        ({"prompt": "x" * 10_001}, "prompt is"),
        ({"output_format": "avif"}, "output_format is"),
        ({"model": "nope"}, 'model is "nope"'),
        ({"style_preset": "anime"}, "style_preset is"),
        ({"seed": 2**32}, "seed is"),
        ({"cfg_scale": 50}, "cfg_scale is 50"),
    ],
)
def test_refused(stability: Running, parts: dict[str, object], said: str) -> None:
    response = v2(stability, "generate/sd3", **{"prompt": "a cat", **parts})
    assert check_error(response, 400, "bad_request").startswith(said)


def test_a_form_without_parts_is_refused(stability: Running) -> None:
    response = stability.client.post(f"{V2}/generate/core", data={"prompt": "a cat"})
    assert "multipart/form-data" in check_error(response, 400, "bad_request")


def test_inpaint(stability: Running) -> None:
    response = v2(stability, "edit/inpaint", image=IMAGE, mask=MASK, prompt="a cat", seed=7)
    options = {"mask_mode": "soft", "mask_grow": 5, "mask_blur": 3, "strength": 1.0}
    files = {"image": in_base64(IMAGE), "mask": in_base64(MASK)}
    same(stability, response, "inpaint", prompt="a cat", seed=7, **options, **files)
    pixels = [opened(image(response)).convert("RGB").getpixel((x, 32)) for x in (4, 60)]
    assert pixels[0] == (255, 0, 0)
    assert pixels[1] == gradient().getpixel((60, 32))


def test_without_a_mask_the_transparent_part_is_inpainted(stability: Running) -> None:
    transparent = gradient().convert("RGBA")
    transparent.paste((0, 0, 0, 0), (32, 0, 64, 64))
    file = packed(transparent)
    response = v2(stability, "edit/inpaint", image=file, prompt="a cat", seed=7, grow_mask=0)
    options = {"mask_mode": "soft", "mask_source": "alpha", "strength": 1.0, **UNCHANGED}
    same(stability, response, "inpaint", prompt="a cat", seed=7, image=in_base64(file), **options)
    response = v2(stability, "edit/inpaint", image=IMAGE, prompt="a cat")
    assert check_error(response, 400, "bad_request").startswith("image is")


def test_erase(stability: Running) -> None:
    """Nothing of what is marked is left: its surroundings fill it before it is generated."""
    response = v2(stability, "edit/erase", image=IMAGE, mask=MASK, seed=7, grow_mask=0)
    options = {"mask_mode": "soft", "masked_content": "fill", "strength": 0.75, **UNCHANGED}
    files = {"image": in_base64(IMAGE), "mask": in_base64(MASK)}
    same(stability, response, "inpaint", prompt="", seed=7, **options, **files)


@pytest.mark.parametrize("names", [("up", "down"), ("top", "bottom")])
def test_outpaint(stability: Running, names: tuple[str, str]) -> None:
    up, down = names
    sides = {"left": 8, "right": 16}
    fields = {"prompt": "a cat", "seed": 7, "creativity": 0.5, up: 24, down: 32}
    response = v2(stability, "edit/outpaint", image=IMAGE, **sides, **fields)
    borders = {**sides, "top": 24, "bottom": 32}
    expected = {"prompt": "a cat", "seed": 7, "strength": 0.75, "image": in_base64(IMAGE)}
    same(stability, response, "outpaint", **borders, **expected)
    assert opened(image(response)).size == (88, 120)


def test_outpainting_nothing_is_refused(stability: Running) -> None:
    response = v2(stability, "edit/outpaint", image=IMAGE)
    assert check_error(response, 400, "bad_request").startswith("left is")
    response = v2(stability, "edit/outpaint", image=IMAGE, up=2001)
    assert check_error(response, 400, "bad_request").startswith("up is 2001")


@pytest.mark.parametrize(("name", "upscaler"), [(None, "esrgan"), ("lanczos", "lanczos")])
def test_fast_upscaling(stability: Running, name: str | None, upscaler: str) -> None:
    model = {} if name is None else {"model": name}
    response = v2(stability, "upscale/fast", image=IMAGE, seed=7, **model)
    fields = {"image": in_base64(IMAGE), "upscaler": upscaler, "scale": 4, "seed": 7}
    same(stability, response, "upscale", **fields)
    assert opened(image(response)).size == (256, 256)


def test_fast_upscaling_by_an_unknown_upscaler(stability: Running) -> None:
    response = v2(stability, "upscale/fast", image=IMAGE, model="nope")
    assert check_error(response, 400, "bad_request").startswith('model is "nope"')


def test_conservative_upscaling(stability: Running) -> None:
    """It is image to image in tiles; of a model with tiles of 64 pixels 512 of them."""
    response = v2(stability, "upscale/conservative", image=IMAGE, prompt="a cat", seed=7)
    fields = {"image": in_base64(IMAGE), "prompt": "a cat", "seed": 7, "strength": 0.35}
    tiles = {"tile_size": 64, "upscaler": "esrgan", "width": 1448}
    same(stability, response, "img2img", **fields, **tiles)
    assert opened(image(response)).size == (1448, 1448)


@pytest.mark.parametrize(
    "path",
    [
        "stable-image/edit/search-and-replace",
        "stable-image/edit/remove-background",
        "stable-image/control/sketch",
        "image-to-video",
        "",
        "x/../y",
    ],
)
def test_other_paths_are_not_found(stability: Running, path: str) -> None:
    response = stability.client.post(f"/v2beta/{path}", data={"prompt": "x"}, files={"none": ""})
    check_error(response, 404, "not_found")
    response = stability.client.post(f"/v1/generation/{path}", json={})
    check_error(response, 404, "not_found")
    check_error(
        stability.client.get("/v2beta/stable-image/generate/core"), 405, "method_not_allowed"
    )
