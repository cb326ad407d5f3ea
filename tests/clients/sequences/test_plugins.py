"""Plug-ins of editors: Auto-Photoshop, gimp-stable-boy, stable-gimpfusion."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clients.sequences.front_end import FORM, at, basic, ok, said_to_be
from tests.clients.stack import Stack
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed

IMAGE = in_base64(packed(gradient(64, 64)))
MASK = in_base64(packed(left_half_white(64, 64)))


def data_uri(image: str) -> str:
    return f"data:image/png;base64,{image}"


# Auto-Photoshop sends all its ControlNet units, also those that are off.
OFF_UNIT: dict[str, Any] = {
    "enabled": False,
    "input_image": "",
    "mask": "",
    "module": "none",
    "model": "None",
    "weight": 1.0,
    "resize_mode": "Scale to Fit (Inner Fit)",
    "lowvram": False,
    "processor_res": 512,
    "threshold_a": 0,
    "threshold_b": 0,
    "guidance_start": 0,
    "guidance_end": 1,
    "control_mode": 0,
    "pixel_perfect": True,
}
PHOTOSHOP: dict[str, Any] = {
    "prompt": "a red heart",
    "negative_prompt": "blue",
    "steps": 2,
    "sampler_index": "Euler a",
    "cfg_scale": 7,
    "seed": "-1",
    "width": 64,
    "height": 64,
    "batch_size": 1,
    "restore_faces": False,
    "enable_hr": False,
    "controlnet_units": [OFF_UNIT] * 3,
    "alwayson_scripts": {"controlnet": {"args": [OFF_UNIT] * 3}},
}


@pytest.fixture
def photoshop(stack: Stack) -> Iterator[httpx.Client]:
    with at(stack.url, basic(f"user:{stack.key}")) as client:
        yield client


def test_auto_photoshop_starts(photoshop: httpx.Client) -> None:
    api = "/sdapi/v1"
    for name in ("sd-models", "samplers", "upscalers", "loras"):
        assert isinstance(ok(photoshop.get(f"{api}/{name}")), list), name
    assert "loaded" in ok(photoshop.get(f"{api}/embeddings"))
    assert "adetailer" not in ok(photoshop.get(f"{api}/scripts"))["txt2img"]
    ok(photoshop.get(f"{api}/options"))
    ok(photoshop.post(f"{api}/options", json={"inpainting_mask_weight": 1.0}))
    title = ok(photoshop.get(f"{api}/sd-models"))[0]["title"]
    ok(photoshop.post(f"{api}/options", json={"sd_model_checkpoint": title}))
    settings = ok(photoshop.get("/controlnet/settings"))
    assert settings["control_net_unit_count"] >= 1
    assert ok(photoshop.get("/controlnet/version"))["version"] > 1
    assert isinstance(ok(photoshop.get("/controlnet/model_list"))["model_list"], list)
    modules = ok(photoshop.get("/controlnet/module_list", params={"alias_names": "true"}))
    assert modules["module_list"]
    own = photoshop.get("/sdapi/auto-photoshop-sd/version")
    assert own.status_code == httpx.codes.NOT_FOUND
    assert own.json()["detail"]


@pytest.mark.parametrize("mode", ["txt2img", "img2img", "inpaint"])
def test_auto_photoshop_generates(photoshop: httpx.Client, mode: str) -> None:
    """Images beyond batch_size would be annotations; each is read again by png-info."""
    body, path = PHOTOSHOP, mode
    if mode != "txt2img":
        path = "img2img"
        body = body | {"init_images": [data_uri(IMAGE)], "denoising_strength": 0.6}
    if mode == "inpaint":
        body = body | {
            "mask": data_uri(MASK),
            "mask_blur": 4,
            "inpainting_fill": 1,
            "inpaint_full_res": False,
            "inpaint_full_res_padding": 0,
            "inpainting_mask_invert": 0,
        }
    (image,) = ok(photoshop.post(f"/sdapi/v1/{path}", json=body))["images"]
    assert opened(image).size == (64, 64)
    progress = ok(photoshop.get("/sdapi/v1/progress", params={"skip_current_image": "false"}))
    assert progress["progress"] == 0.0
    read = ok(photoshop.post("/sdapi/v1/png-info", json={"image": data_uri(image)}))
    assert "Seed: " in read["info"]
    assert read["parameters"] is not None
    assert ok(photoshop.post("/sdapi/v1/interrupt")) == {}


def test_auto_photoshop_detects_nothing(photoshop: httpx.Client) -> None:
    """There are no preprocessors but `none`: another one is refused in the extension's words."""
    body = {"controlnet_module": "canny", "controlnet_input_images": [data_uri(IMAGE)]}
    response = photoshop.post("/controlnet/detect", json=body)
    assert response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "Module not available" in json.dumps(response.json())
    response = photoshop.post("/controlnet/detect", json={"controlnet_module": "none"})
    assert response.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "No image selected" in json.dumps(response.json())


# gimp-stable-boy has no field for a key; seeds are texts and numbers have fractions.
STABLE_BOY: dict[str, Any] = {
    "prompt": "a red heart",
    "negative_prompt": "",
    "steps": 2.0,
    "sampler_index": "Euler a",
    "batch_size": 1,
    "cfg_scale": 7.5,
    "seed": "-1",
    "restore_faces": False,
    "tiling": False,
    "width": 64.0,
    "height": 64.0,
}


@pytest.mark.parametrize("mode", ["txt2img", "img2img", "inpaint"])
def test_gimp_stable_boy(stack: Stack, mode: str) -> None:
    body, path = STABLE_BOY, mode
    if mode != "txt2img":
        path = "img2img"
        body = body | {"init_images": [data_uri(IMAGE)], "denoising_strength": 0.8}
    if mode == "inpaint":
        body = body | {
            "mask": data_uri(MASK),
            "mask_blur": 4.0,
            "inpainting_fill": 1,
            "inpaint_full_res": True,
            "inpaint_full_res_padding": 32.0,
            "inpainting_mask_invert": 1,
        }
    with at(stack.open_url) as client:
        answer = ok(client.post(f"/sdapi/v1/{path}", **said_to_be(FORM, body)))
    assert opened(answer["images"][0]).size == (64, 64)


def test_gimp_stable_boy_upscales(stack: Stack) -> None:
    body = {
        "upscaling_resize": 2.0,
        "upscaler_1": "Lanczos",
        "image": data_uri(IMAGE),
    }
    with at(stack.open_url) as client:
        answer = ok(client.post("/sdapi/v1/extra-single-image", **said_to_be(FORM, body)))
    assert opened(answer["image"]).size == (128, 128)


def test_stable_gimpfusion(stack: Stack) -> None:
    """Sides are floats, and units of ControlNet without an image have old names and an integer."""
    unit = {
        "input_image": "",
        "mask": "",
        "module": "none",
        "model": "none",
        "weight": 1.0,
        "resize_mode": "Scale to Fit (Inner Fit)",
        "lowvram": False,
        "processor_res": 64,
        "threshold_a": 64,
        "threshold_b": 64,
        "guidance": 1.0,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "control_mode": 0,
    }
    body = {
        "prompt": "a red heart",
        "negative_prompt": "",
        "init_images": [data_uri(IMAGE)],
        "width": 64.0,
        "height": 64.0,
        "steps": 3,
        "cfg_scale": 7.5,
        "seed": -1,
        "batch_size": 1,
        "denoising_strength": 0.8,
        "sampler_index": "Euler a",
        "styles": None,
        "subseed": None,
        "eta": None,
        "script_name": None,
        "override_settings": None,
        "alwayson_scripts": {"controlnet": {"args": [unit]}},
    }
    with at(stack.open_url) as client:
        ok(client.get("/sdapi/v1/options"))
        title = ok(client.get("/sdapi/v1/sd-models"))[0]["title"]
        ok(client.get("/controlnet/model_list"))
        ok(client.post("/sdapi/v1/options", **said_to_be(FORM, {"sd_model_checkpoint": title})))
        answer = ok(client.post("/sdapi/v1/img2img", **said_to_be(FORM, body)))
    assert opened(answer["images"][0]).size == (64, 64)
