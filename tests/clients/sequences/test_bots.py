"""Bots and servers that use AUTOMATIC1111's API: aiyabot, SwarmUI, sd-webui-discord."""

import threading
from typing import Any

import httpx

from tests.clients.sequences.front_end import at, basic, ok
from tests.clients.stack import MODEL, Stack
from tests.service.sample_images import gradient, in_base64, opened, packed

IMAGE = in_base64(packed(gradient(64, 64)))
AIYABOT: dict[str, Any] = {
    "prompt": "a red heart",
    "negative_prompt": "",
    "steps": 2,
    "width": 64,
    "height": 64,
    "cfg_scale": "7.0",
    "sampler_index": "Euler a",
    "seed": 5,
    "seed_resize_from_h": -1,
    "seed_resize_from_w": -1,
    "denoising_strength": None,
    "n_iter": 2,
    "batch_size": 1,
    "styles": ["None"],
    "override_settings": {"CLIP_stop_at_last_layers": 1},
}


def test_aiyabot_starts(stack: Stack) -> None:
    """A 401 of cmd-flags makes it log in by Basic, and it parses every answer of /config."""
    with at(stack.url) as client:
        assert client.get("/sdapi/v1/cmd-flags").status_code == httpx.codes.UNAUTHORIZED
        assert client.head("/").is_success
    with at(stack.url, basic(f"user:{stack.key}")) as client:
        assert isinstance(ok(client.get("/sdapi/v1/cmd-flags")), dict)
        client.get("/sdapi/v1/version").json()
        config = client.get("/config")
        assert config.status_code != httpx.codes.UNAUTHORIZED
        assert isinstance(config.json(), dict)
        assert "Euler a" in [sampler["name"] for sampler in ok(client.get("/sdapi/v1/samplers"))]
        for name in ("prompt-styles", "face-restorers", "hypernetworks", "upscalers", "loras"):
            assert isinstance(ok(client.get(f"/sdapi/v1/{name}")), list), name
        assert ok(client.get("/sdapi/v1/embeddings")).keys() == {"loaded", "skipped"}
        (model,) = ok(client.get("/sdapi/v1/sd-models"))
        assert {"title", "model_name", "hash", "filename"} <= model.keys()


def test_aiyabot_generates(stack: Stack) -> None:
    with at(stack.url, basic(f"user:{stack.key}")) as client:
        options = {"sd_model_checkpoint": MODEL, "CLIP_stop_at_last_layers": 1}
        ok(client.post("/sdapi/v1/options", json=options))
        answer = ok(client.post("/sdapi/v1/txt2img", json=AIYABOT))
        assert [opened(image).size for image in answer["images"]] == [(64, 64)] * 2
        read = ok(client.post("/sdapi/v1/png-info", json={"image": answer["images"][1]}))
        assert "Seed: 6" in read["info"]
        edit = {**AIYABOT, "init_images": [IMAGE], "denoising_strength": 0.75, "n_iter": 1}
        assert ok(client.post("/sdapi/v1/img2img", json=edit))["images"]
        assert ok(client.get("/sdapi/v1/progress"))["state"]["job"] == ""  # idle
        ok(client.post("/sdapi/v1/interrupt"))
        ok(client.post("/sdapi/v1/skip"))
        client.post("/sdapi/v1/interrogate", json={"image": IMAGE, "model": "clip"}).json()


def test_progress_is_that_of_one_key(stack: Stack) -> None:
    """One client neither sees nor interrupts what another client generates."""
    batch_size = 4
    slow = {"prompt": "x", "width": 512, "height": 512, "steps": 150, "batch_size": batch_size}
    answers = list[httpx.Response]()
    with (
        at(f"{stack.url}/sdapi/v1", basic(f"user:{stack.key}")) as mine,
        at(f"{stack.url}/sdapi/v1", basic(f"user:{stack.other_key}")) as other,
    ):
        task = threading.Thread(target=lambda: answers.append(mine.post("txt2img", json=slow)))
        task.start()
        while ok(mine.get("progress"))["state"]["job_count"] == 0:
            assert task.is_alive()
        assert ok(other.get("progress"))["state"]["job_count"] == 0
        ok(other.post("interrupt"))
        assert ok(mine.get("progress"))["state"]["job_count"] == 1
        ok(mine.post("interrupt"))
        task.join()
    assert len(ok(answers[0])["images"]) < batch_size


def test_swarmui(stack: Stack) -> None:
    """The title of a model is sent without the hash at its end."""
    with at(f"{stack.open_url}/sdapi/v1") as client:
        assert ok(client.get("options"))["sd_model_checkpoint"]
        assert ok(client.get("samplers"))[0]["name"]
        title = ok(client.get("sd-models"))[0]["title"].partition(" [")[0]
        ok(client.post("options", json={"sd_model_checkpoint": title}))
        body = {
            "prompt": "a red heart",
            "negative_prompt": "",
            "seed": 5,
            "steps": 2,
            "width": 64,
            "height": 64,
            "batch_size": 1,
            "cfg_scale": 7,
            "subseed": 0,
            "subseed_strength": 0,
            "sampler_name": "Euler",
        }
        first = ok(client.post("txt2img", json=body))["images"]
        assert opened(first[0]).size == (64, 64)
        edit = {**body, "init_images": [first[0]], "denoising_strength": 0.5}
        assert opened(ok(client.post("img2img", json=edit))["images"][0]).size == (64, 64)


def test_sd_webui_discord(stack: Stack) -> None:
    with at(stack.url, basic(f"user:{stack.key}")) as client:
        for name in ("loras", "upscalers", "sd-vae", "sd-models", "samplers", "face-restorers"):
            assert isinstance(ok(client.get(f"/sdapi/v1/{name}")), list), name
        assert ok(client.get("/controlnet/module_list"))["module_list"]
        assert "model_list" in ok(client.get("/controlnet/model_list"))
        body = {"image": IMAGE, "upscaling_resize": 2, "upscaler_1": "Lanczos", "resize_mode": 0}
        answer = ok(client.post("/sdapi/v1/extra-single-image", json=body))
        assert opened(answer["image"]).size == (128, 128)
        for path in ("/sam/heartbeat", "/roop/image", "/rembg", "/deoldify/image"):
            missing = client.get(path)
            assert missing.status_code == httpx.codes.NOT_FOUND
            assert missing.json()
