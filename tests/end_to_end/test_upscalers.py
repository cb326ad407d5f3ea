"""Upscalers over HTTP, from the file that people have to the larger image."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from tests.end_to_end.browser import generate, image_sizes, opened_page, select_task
from tests.models.upscalers.reference import compact, current, rrdb, save_pth
from tests.support.local_stack import running_stack
from tests.support.tiny_models import write_tiny_sd

IMAGE = Image.linear_gradient("L").resize((40, 24)).convert("RGB")


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    write_tiny_sd(home / "models/tiny")
    add(home, "realesr-tiny", compact().state_dict(), "params")
    add(home, "RealESRGAN_x2tiny", current(rrdb(scale=2, shuffle=2).state_dict()), "params_ema")
    with running_stack(DARKROOM_MODELS_HOME=str(home), DARKROOM_MODEL="tiny") as url:
        yield url


def add(home: Path, name: str, weights: Any, wrapper: str) -> None:
    file = save_pth(weights, home / f"{name}.pth", wrapper)
    install(str(file), ModelStore(home))


def post(url: str, route: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{url}/v1/{route}", json=body, timeout=60)


def image_of(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    found = base64.b64decode(response.json()["images"][0]["base64"])
    return Image.open(io.BytesIO(found))


def test_model_lists_the_upscalers(url: str) -> None:
    [card] = httpx.get(f"{url}/v1/models", timeout=60).json()["models"]
    assert card["upscalers"] == [
        {"name": "RealESRGAN_x2tiny", "scale": 2},
        {"name": "realesr-tiny", "scale": 4},
    ]
    assert "upscale" not in card["tasks"]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"upscaler": "realesr-tiny"}, (160, 96)),
        ({"upscaler": "RealESRGAN_x2tiny", "scale": 2.5}, (100, 60)),
        ({"upscaler": "realesr-tiny", "upscaler_2": "nearest", "scale": 1}, (40, 24)),
        ({"upscaler": "lanczos"}, (160, 96)),
    ],
)
def test_image_is_upscaled(url: str, fields: dict[str, Any], size: tuple[int, int]) -> None:
    body = {"image": encoded(IMAGE), **fields}
    first, again = (image_of(post(url, "upscale", body)) for _ in range(2))
    assert first.size == size
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    assert np.asarray(first).std() > 1
    assert json.loads(first.info["darkroom"])["upscaling"]["upscaler"] == fields["upscaler"]


def test_second_pass_is_upscaled_in_pixels(url: str) -> None:
    body = {"prompt": "a cat", "seed": 3, "steps": 3, "hires_scale": 2}
    plain = image_of(post(url, "txt2img", body))
    upscaled = image_of(post(url, "txt2img", {**body, "hires_upscaler": "realesr-tiny"}))
    assert plain.size == upscaled.size == (64, 64)
    assert not np.array_equal(np.asarray(plain), np.asarray(upscaled))
    assert "upscal" not in plain.info["darkroom"]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"upscaler": "RealESRGAN_x2tiny", "scale": 2.5, "tile_overlap": 8}, (100, 60)),
        ({"width": 96, "height": 64}, (96, 64)),
    ],
)
def test_image_is_generated_again_in_tiles(
    url: str, fields: dict[str, Any], size: tuple[int, int]
) -> None:
    body = {"prompt": "a cat", "image": encoded(IMAGE), "seed": 3, "steps": 3, "tile_size": 32}
    first, again = (image_of(post(url, "img2img", {**body, **fields})) for _ in range(2))
    assert first.size == size
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    assert json.loads(first.info["darkroom"])["tiles"]["size"] == 32


MASKED = {"inpaint_area": "masked", "mask_padding": 4, "mask_blur": 2}
CROWD: list[tuple[str, dict[str, Any]]] = [
    ("txt2img", {}),
    ("txt2img", {"hires_scale": 2, "hires_upscaler": "realesr-tiny"}),
    ("img2img", {"strength": 0.6, "width": 32, "height": 32, "resize_mode": "fill"}),
    ("img2img", {"noise_multiplier": 0.9}),
    ("img2img", {"tile_size": 32, "upscaler": "RealESRGAN_x2tiny", "scale": 2}),
    ("inpaint", {}),
    ("inpaint", {"mask_blur": 3, "mask_grow": 2, "masked_content": "fill"}),
    ("inpaint", {"mask_mode": "soft", "masked_content": "noise", "strength": 0.7}),
    ("inpaint", MASKED),
    ("inpaint", {**MASKED, "mask_invert": True, "masked_content": "nothing", "strength": 0.7}),
    ("upscale", {"upscaler": "realesr-tiny", "upscaler_2": "lanczos", "scale": 2.5}),
    ("upscale", {"upscaler": "RealESRGAN_x2tiny"}),
]


def test_a_crowd_gives_each_request_the_bytes_it_has_alone(url: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    mask = Image.radial_gradient("L").resize((40, 24))
    images = {"image": encoded(Image.fromarray(noise))}
    masked = {**images, "mask": encoded(mask)}
    inputs = {"txt2img": {}, "img2img": images, "upscale": images, "inpaint": masked}

    def answer(number: int) -> str:
        route, fields = CROWD[number]
        sampling = {} if route == "upscale" else {"prompt": "a cat", "steps": 3}
        response = post(url, route, {**inputs[route], **sampling, "seed": number, **fields})
        assert response.status_code == 200, response.text
        return str(response.json()["images"][0]["base64"])

    numbers = list(range(len(CROWD)))
    alone = [answer(number) for number in numbers]
    assert len(set(alone)) == len(CROWD)
    for order in (numbers, numbers[::-1]):
        with ThreadPoolExecutor(len(order)) as threads:
            together = dict(zip(order, threads.map(answer, order), strict=True))
        assert [together[number] for number in numbers] == alone


@pytest.mark.parametrize(
    ("route", "fields", "field"),
    [
        ("upscale", {"upscaler": "4x-UltraSharp"}, "upscaler"),
        ("upscale", {"upscaler": "lanczos", "upscaler_2": "gone"}, "upscaler_2"),
        ("upscale", {"upscaler": "lanczos", "scale": 0.5}, "scale"),
        ("upscale", {"upscaler": "lanczos", "steps": 3}, "steps"),
        ("upscale", {"upscaler": "lanczos", "model": "gone"}, "model"),
        ("upscale", {}, "upscaler"),
        ("img2img", {"prompt": "x", "upscaler": "lanczos"}, "upscaler"),
        ("img2img", {"prompt": "x", "tile_size": 32, "width": 20_000}, "width"),
        ("img2img", {"prompt": "x", "tile_size": 32, "width": 9000}, "width"),
        ("img2img", {"prompt": "x", "tile_size": 32, "upscaler": "gone"}, "upscaler"),
        ("img2img", {"prompt": "x", "tile_size": 33}, "tile_size"),
    ],
)
def test_invalid_requests_name_the_field(
    url: str, route: str, fields: dict[str, Any], field: str
) -> None:
    response = post(url, route, {"image": encoded(IMAGE), **fields})
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, field)
    assert problem["bound"]


def test_form_with_a_file(url: str) -> None:
    buffer = io.BytesIO(base64.b64decode(encoded(IMAGE)))
    form = {"upscaler": "realesr-tiny", "scale": "1.5", "upscaler_2": "lanczos"}
    sent = httpx.post(f"{url}/v1/upscale", data=form, files={"image": buffer}, timeout=60)
    assert image_of(sent).size == (60, 36)


def test_page_upscales_and_sends_no_settings_of_sampling(url: str, browser: Browser) -> None:
    file = {"name": "a.png", "mimeType": "image/png", "buffer": base64.b64decode(encoded(IMAGE))}
    with opened_page(browser, url) as page:
        select_task(page, "Upscale")
        page.locator("#file").set_input_files(file)  # type: ignore[arg-type]
        page.locator("#upscaler").select_option("realesr-tiny")
        assert not page.locator("#steps").is_visible()
        page.locator("#scale").fill("1.5")
        page.locator("#upscaler_2").select_option("lanczos")
        page.locator("#generate").click()
        expect(page.locator("#status")).to_contain_text("Done")
        assert image_sizes(page) == [[60, 36]]
        select_task(page, "Text to image")
        assert page.locator("#steps").is_visible()
        page.locator("#hires_scale").fill("2")
        page.locator("#hires_upscaler").select_option("realesr-tiny")
        page.locator("#steps").fill("2")
        generate(page, "a cat")
        assert image_sizes(page)[0] == [64, 64]
        select_task(page, "Image to image")
        page.locator("#tile_size").fill("32")
        page.locator("#tile_size").press("Tab")
        page.locator("#scale").fill("2")
        generate(page, "a cat")
        assert image_sizes(page)[0] == [80, 48]
