"""Client packages of AUTOMATIC1111's API, unpatched, against a running stack."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.clients.clients import WEBUI_CLIENTS, Client
from tests.clients.conftest import Ask
from tests.clients.processes import ClientError
from tests.clients.stack import MODEL
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

PROMPT = "a red heart"
SMALL = {"prompt": PROMPT, "width": 64, "height": 128, "steps": 3, "seed": 7}
SLOW: dict[str, Any] = {
    "prompt": PROMPT,
    "width": 256,
    "height": 256,
    "steps": 150,
    "batch_size": 4,
}
SD_BACKEND = next(client for client in WEBUI_CLIENTS if client.name == "sd-backend-client")
WEBUIAPI = next(client for client in WEBUI_CLIENTS if client.name == "webuiapi")

only_webuiapi = pytest.mark.parametrize("client", [WEBUIAPI], ids=[WEBUIAPI.name])
only_sd_backend = pytest.mark.parametrize("client", [SD_BACKEND], ids=[SD_BACKEND.name])
every_client = pytest.mark.parametrize(
    "client", WEBUI_CLIENTS, ids=[client.name for client in WEBUI_CLIENTS]
)


def images(answer: dict[str, Any]) -> list[Image.Image]:
    """Return the images of an answer; sd-backend-client gives all of them an alpha channel."""
    return [opened(file).convert("RGB") for file in answer.get("files") or answer["images"]]


def generated(native: httpx.Client, seed: int, **params: Any) -> Image.Image:
    """Return the image of the native API."""
    body = {"prompt": PROMPT, "width": 64, "height": 128, "steps": 3, "seed": seed, **params}
    answer = native.post("/v1/txt2img", json=body).raise_for_status().json()
    return opened(answer["images"][0]["base64"])


@only_webuiapi
def test_lists_of_webuiapi(client: Client, ask: Ask) -> None:
    lists = ask("lists")
    (model,) = lists["models"]
    assert model.startswith(f"{MODEL}")
    assert {"Euler a", "DPM++ 2M", "DDIM"} <= set(lists["samplers"])
    assert {"automatic", "karras"} <= set(lists["schedulers"])
    assert lists["upscalers"][0]["name"] == "None"
    assert {"name": "Latent"} in lists["latent_upscale_modes"]
    assert lists["embeddings"] == {"loaded": {}, "skipped": {}}
    assert lists["scripts"].keys() == {"txt2img", "img2img"}
    assert "adetailer" not in lists["scripts"]["txt2img"]
    assert "sd_model_checkpoint" in lists["options"]
    assert lists["progress"]["progress"] == 0.0
    assert lists["progress"]["state"]["job_count"] == 0
    assert isinstance(lists["controlnet_version"], int)
    for name in ("vae", "loras", "hypernetworks", "face_restorers", "prompt_styles"):
        assert isinstance(lists[name], list), name
    assert lists["refreshed"] is None
    assert lists["skipped"] is None


@only_webuiapi
def test_chooses_a_model(client: Client, ask: Ask) -> None:
    assert ask("set_model", name=MODEL)["current"].startswith(MODEL)


@only_sd_backend
def test_lists_of_sd_backend_client(client: Client, ask: Ask) -> None:
    """The package checks the type of every field."""
    lists = ask("lists")
    assert [name.partition(".")[0] for name in lists["models"]] == [MODEL]
    assert {"euler", "euler_ancestral", "dpmpp_2m"} <= set(lists["samplers"])
    assert {"karras", "exponential"} <= set(lists["schedulers"])
    assert lists["upscalers"]
    assert lists["latent_upscale_modes"]
    assert lists["idle"] == 0
    assert lists["controlnet"] is True
    assert lists["scheduler"] is True


@only_sd_backend
def test_is_taken_for_a_webui(client: Client, ask: Ask) -> None:
    assert ask("detected") == "A1111Webservice"


@only_webuiapi
@pytest.mark.parametrize("action", ["generate", "generate_async", "generate_with_idle_controls"])
def test_webuiapi_generates(client: Client, ask: Ask, native: httpx.Client, action: str) -> None:
    """The images are those of the native API, each with its own seed."""
    answer = ask(action, **SMALL, batch_size=2, n_iter=1, cfg_scale=5.0, sampler_name="Euler")
    # What "automatic" is for Euler in AUTOMATIC1111: all timesteps, evenly spaced.
    settings = {"guidance_scale": 5.0, "sampler": "euler", "schedule": "linspace"}
    expected = [generated(native, seed, **settings) for seed in (7, 8)]
    assert answer["sizes"] == [[64, 128], [64, 128]]
    assert all(map(same, images(answer), expected))
    assert answer["info"]["all_seeds"] == [7, 8]
    assert answer["info"]["prompt"] == PROMPT
    assert answer["info"]["infotexts"][0].startswith(PROMPT)
    assert answer["parameters"]["prompt"] == PROMPT


@only_webuiapi
def test_webuiapi_generates_at_high_resolution(client: Client, ask: Ask) -> None:
    answer = ask(
        "generate",
        **SMALL,
        enable_hr=True,
        hr_scale=2,
        hr_upscaler="Latent",
        hr_second_pass_steps=2,
    )
    assert answer["sizes"] == [[128, 256]]


@only_sd_backend
def test_sd_backend_client_generates(client: Client, ask: Ask, native: httpx.Client) -> None:
    answer = ask("generate", **SMALL, batch_size=2, cfg_scale=5.0, sampler="euler")
    settings = {"guidance_scale": 5.0, "sampler": "euler"}
    assert answer["seeds"] == [7, 8]
    expected = [generated(native, seed, **settings, schedule="normal") for seed in (7, 8)]
    assert all(map(same, images(answer), expected))


@every_client
def test_edits_an_image(client: Client, ask: Ask) -> None:
    image = gradient(128, 64)
    answer = ask(
        "edit", prompt=PROMPT, steps=4, width=128, height=64, image=in_base64(packed(image))
    )
    (edited,) = images(answer)
    assert edited.size == image.size
    assert not same(edited, image)


@every_client
def test_edits_where_the_mask_is_white(client: Client, ask: Ask) -> None:
    image, name = gradient(128, 128), "mask_image" if client is WEBUIAPI else "mask"
    mask = in_base64(packed(left_half_white(128, 128)))
    params = {"prompt": PROMPT, "steps": 4, "width": 128, "height": 128, "mask_blur": 0}
    answer = ask("edit", image=in_base64(packed(image)), **params, **{name: mask})
    before, after = np.asarray(image), np.asarray(images(answer)[0].convert("RGB"))
    assert np.array_equal(before[:, 72:], after[:, 72:])
    assert not np.array_equal(before[:, :56], after[:, :56])


@only_webuiapi
def test_webuiapi_upscales(client: Client, ask: Ask) -> None:
    files = [in_base64(packed(gradient(width, 32))) for width in (32, 64)]
    one = ask("upscale", images=files[:1], upscaler_1="Lanczos", upscaling_resize=2)
    assert one["sizes"] == [[64, 64]]
    assert isinstance(one["info"], str)
    two = ask("upscale", images=files, upscaler_1="Lanczos", upscaling_resize=2)
    assert two["sizes"] == [[64, 64], [128, 64]]


@only_sd_backend
def test_sd_backend_client_upscales(client: Client, ask: Ask) -> None:
    answer = ask("upscale", image=in_base64(packed(gradient(32, 32))), width=96, height=96)
    assert [image.size for image in images(answer)] == [(96, 96)]


@only_webuiapi
def test_webuiapi_reads_parameters(client: Client, ask: Ask) -> None:
    answer = ask("generate", **SMALL, negative_prompt="blue", sampler_name="Euler a")
    (file,) = answer["files"]
    assert opened(file).info["parameters"] == answer["info"]["infotexts"][0]
    assert ask("read", image=file)["info"] == answer["info"]["infotexts"][0]
    assert "Seed: 7" in answer["info"]["infotexts"][0]


@only_webuiapi
def test_webuiapi_interrupts(client: Client, ask: Ask) -> None:
    """An interrupted task is no error: its answer has fewer images."""
    found = ask("cancel", **SLOW)
    assert 0 < found["progress"]["progress"] <= 1
    assert found["progress"]["state"]["job_count"] == 1
    assert found["interrupted"] == {}
    assert len(found["answer"]["files"]) < SLOW["batch_size"]


@only_sd_backend
def test_sd_backend_client_cancels(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("cancel", **SLOW)
    assert client.errors["abort"] in raised.value.kinds


@every_client
def test_meets_an_error(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("generate", **{**SMALL, "width": 4096})
    assert client.errors["bad"] in raised.value.kinds
    assert "4096" in raised.value.message


@every_client
def test_meets_a_refused_key(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("generate", **SMALL, api_key="not-a-key")
    assert client.errors["refused"] in raised.value.kinds
    if client is WEBUIAPI:
        assert "Incorrect username or password" in raised.value.message
        assert "401" in raised.value.message
    assert "not-a-key" not in raised.value.message


@only_webuiapi
def test_meets_what_is_not_possible(client: Client, ask: Ask) -> None:
    """There is no captioner, and scripts that would change the image are refused by name."""
    with pytest.raises(ClientError) as raised:
        ask("interrogate", image=in_base64(packed(gradient())))
    assert "RuntimeError" in raised.value.kinds
    script = {"alwayson_scripts": {"ADetailer": {"args": [True, {"ad_model": "face_yolov8n.pt"}]}}}
    with pytest.raises(ClientError, match="ADetailer"):
        ask("generate", **SMALL, **script)
