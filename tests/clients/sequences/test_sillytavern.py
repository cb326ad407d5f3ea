"""SillyTavern: its sources `auto`, `vlad`, `sdcpp` and `drawthings`."""

from typing import Any

import httpx
import pytest

from tests.clients.sequences.front_end import at, basic, ok
from tests.clients.stack import Stack
from tests.service.sample_images import opened

GENERATION: dict[str, Any] = {
    "prompt": "a red heart",
    "negative_prompt": "blue",
    "sampler_name": "Euler a",
    "scheduler": "karras",
    "steps": 2,
    "cfg_scale": 7,
    "width": 64,
    "height": 64,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 2,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "seed": -1,
    "clip_skip": 1,
    "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"},
    "override_settings_restore_afterwards": True,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}


def access(stack: Stack, keys: bool) -> tuple[str, str]:
    """Return the address, and what a user puts into the field for user and password."""
    return (stack.url, f"user:{stack.key}") if keys else (stack.open_url, "")


@pytest.mark.parametrize("keys", [True, False], ids=["with a key", "without keys"])
def test_auto(stack: Stack, keys: bool) -> None:
    url, login = access(stack, keys)
    with at(f"{url}/sdapi/v1", basic(login)) as client:
        assert client.get("options").is_success  # ping
        assert ok(client.get("samplers"))[0]["name"]
        assert ok(client.get("schedulers"))[0]["name"]
        titles = [model["title"] for model in ok(client.get("sd-models"))]
        upscalers = [upscaler["name"] for upscaler in ok(client.get("upscalers"))]
        upscalers[1:1] = [mode["name"] for mode in ok(client.get("latent-upscale-modes"))]
        assert upscalers[:2] == ["None", "Latent"]
        assert any(client.get(path).is_success for path in ("sd-vae", "sd-modules"))
        assert "forge_preset" not in ok(client.get("options"))

        assert client.post("options", json={"sd_model_checkpoint": titles[0]}).is_success
        progress = ok(client.get("progress"))
        assert progress["progress"] == 0.0
        assert progress["state"]["job_count"] == 0
        assert ok(client.get("options"))["sd_model_checkpoint"] == titles[0]

        response = client.post("txt2img", json={**GENERATION, "url": url, "auth": login})
        assert opened(ok(response)["images"][0]).size == (64, 64)
        if login:
            assert login.partition(":")[2] not in response.text  # its own fields are not echoed
        assert ok(client.post("interrupt")) == {}  # when the browser is closed


def test_vlad(stack: Stack) -> None:
    """SD.Next has no modes of latent upscaling, and names a sampler `Default`."""
    with at(f"{stack.url}/sdapi/v1", basic(f"user:{stack.key}")) as client:
        assert client.get("options").is_success
        assert [model["title"] for model in ok(client.get("sd-models"))]
        assert ok(client.get("upscalers"))[0]["name"] == "None"
        body = {**GENERATION, "sampler_name": "Euler", "url": stack.url, "auth": ""}
        assert opened(ok(client.post("txt2img", json=body))["images"][0]).size == (64, 64)


@pytest.mark.parametrize(
    ("sampler", "scheduler"),
    [("euler_a", "discrete"), ("dpm++2m", "karras"), ("dpm++2s_a", "ays"), ("lcm", "sgm_uniform")],
)
def test_sdcpp(stack: Stack, sampler: str, scheduler: str) -> None:
    """Its ping is OPTIONS of the OpenAI route, without an origin or a key.

    Samplers and schedules have the names of stable-diffusion.cpp.
    """
    for url in (stack.url, stack.open_url):
        assert httpx.options(f"{url}/v1/images/generations", timeout=60).is_success
    with at(stack.open_url) as client:
        models = [model["id"] for model in ok(client.get("/v1/models"))["data"]]
        body = {
            "prompt": "a red heart",
            "negative_prompt": "",
            "width": 64,
            "height": 64,
            "steps": 2,
            "cfg_scale": 7,
            "seed": 5,
            "batch_size": 1,
            "sampler_name": sampler,
            "scheduler": scheduler,
            "clip_skip": 2,
            "model": models[0],
        }
        answer = ok(client.post("/sdapi/v1/txt2img", json=body))
    assert opened(answer["images"][0]).size == (64, 64)


def test_drawthings(stack: Stack) -> None:
    """Its ping is HEAD of the root; the model that GET of the root may name is optional."""
    assert httpx.head(stack.url, timeout=60).is_success
    assert httpx.get(stack.url, timeout=60).is_success
    body = {
        "prompt": "a red heart",
        "negative_prompt": "blue",
        "sampler": "Euler A Trailing",
        "sampler_name": "Euler a",
        "steps": 2,
        "cfg_scale": 7,
        "guidance_scale": 7,
        "width": 64,
        "height": 64,
        "restore_faces": False,
        "enable_hr": False,
        "seed": -1,
    }
    with at(stack.url, basic(f"user:{stack.key}")) as client:
        answer = ok(client.post("/sdapi/v1/txt2img", json=body))
    assert opened(answer["images"][0]).size == (64, 64)
