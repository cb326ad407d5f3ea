"""txt2img and img2img of AUTOMATIC1111's API by HTTP."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from protocol.errors import JobFailed
from protocol.request.inpainting import InpaintArea, MaskedContent
from protocol.request.loras.lora_use import PRESETS
from protocol.request.tasks import Task
from tests.service.conftest import Running, running
from tests.service.dialects.automatic1111.webui import (
    DATA_URI,
    IMAGE,
    MASK,
    WEBUI_CARD,
    info,
    post,
    refused,
)
from tests.service.sample_images import gradient, in_base64, opened, packed
from tests.support.redis_server import RedisServer

# Every key that clients with strict models of `info` read.
INFO_KEYS = {
    *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds"),
    *("subseed", "all_subseeds", "subseed_strength", "width", "height", "sampler_name"),
    *("cfg_scale", "steps", "batch_size", "restore_faces", "face_restoration_model"),
    *("sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash", "seed_resize_from_w"),
    *("seed_resize_from_h", "denoising_strength", "extra_generation_params"),
    *("index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip"),
    *("is_using_inpainting_conditioning", "version"),
}


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, WEBUI_CARD) as service:
        yield service


def noise(seed: int, side: int = 64) -> Any:
    """Return what the fake worker generates from a seed."""
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_images_are_raw_base64_in_order_of_their_seeds(webui: Running) -> None:
    answer = post(webui.client, "txt2img", prompt="x", seed="7", batch_size=2, n_iter=2)
    assert answer.keys() == {"images", "parameters", "info"}
    assert len(answer["images"]) == 4
    for i, image in enumerate(answer["images"]):
        assert (np.asarray(opened(base64.b64decode(image, validate=True))) == noise(7 + i)).all()
    assert info(answer)["all_seeds"] == [7, 8, 9, 10]


def test_info_has_every_key_that_clients_read(webui: Running) -> None:
    sent = {"prompt": "a cat", "negative_prompt": "dog", "steps": 5, "cfg_scale": 6, "seed": 1}
    answer = post(webui.client, "txt2img", **sent, sampler_name="Euler a", width=64, height=96)
    found = info(answer)
    assert found.keys() == INFO_KEYS
    assert (found["prompt"], found["negative_prompt"]) == ("a cat", "dog")
    assert (found["width"], found["height"], found["steps"], found["seed"]) == (64, 96, 5, 1)
    assert found["sampler_name"] == "Euler a"
    assert found["extra_generation_params"] == {"Schedule type": "Uniform"}
    assert time.strptime(found["job_timestamp"], "%Y%m%d%H%M%S")
    assert found["infotexts"] == [
        "a cat\nNegative prompt: dog\nSteps: 5, Sampler: Euler a, Schedule type: Uniform, "
        f"CFG scale: 6, Seed: 1, Size: 64x96, Model: tiny, Version: {found['version']}"
    ]


def test_the_answer_repeats_the_known_fields_and_no_secrets(webui: Running) -> None:
    secret = {"url": "http://user:hunter2@host", "auth": "user:hunter2", "clip_skip": 1}
    settings = {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic", "token": "hunter2"}
    answer = post(webui.client, "txt2img", prompt="x", **secret, override_settings=settings)
    assert "hunter2" not in str(answer)
    assert answer["parameters"]["prompt"] == "x"
    assert (answer["parameters"]["width"], answer["parameters"]["steps"]) == (64, 4)
    assert answer["parameters"]["override_settings"] == {
        "CLIP_stop_at_last_layers": 1,
        "sd_vae": "Automatic",
    }


def test_images_are_left_out_on_request(webui: Running) -> None:
    answer = post(webui.client, "txt2img", prompt="x", send_images=False, seed=3)
    assert answer["images"] == []
    assert info(answer)["all_seeds"] == [3]


def test_any_content_type_is_read_as_json(webui: Running) -> None:
    for kind in ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "a/b"):
        response = webui.client.post(
            "/sdapi/v1/txt2img", content='{"prompt": "x"}', headers={"Content-Type": kind}
        )
        assert response.status_code == 200
        assert float(response.headers["x-process-time"]) > 0


@pytest.mark.parametrize(
    ("samples_format", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")]
)
def test_the_format_of_files_is_an_option(webui: Running, samples_format: str, kind: str) -> None:
    settings = {"samples_format": samples_format}
    answer = post(webui.client, "txt2img", prompt="x", override_settings=settings)
    assert opened(base64.b64decode(answer["images"][0])).format == kind


def test_image_to_image(webui: Running) -> None:
    sent = {"prompt": "x", "init_images": [DATA_URI + IMAGE], "denoising_strength": 0.5}
    answer = post(webui.client, "img2img", **sent)
    assert (
        np.asarray(opened(base64.b64decode(answer["images"][0]))) == np.asarray(gradient())
    ).all()
    assert (answer["parameters"]["init_images"], answer["parameters"]["mask"]) == (None, None)
    assert info(answer)["denoising_strength"] == 0.5
    assert webui.worker.seen[-1].task is Task.IMG2IMG
    answer = post(webui.client, "img2img", **sent, include_init_images=True)
    assert answer["parameters"]["init_images"] == sent["init_images"]


def test_inpainting(webui: Running) -> None:
    sent = {"prompt": "x", "init_images": [IMAGE], "mask": MASK, "mask_blur": 0}
    answer = post(webui.client, "img2img", **sent, inpaint_full_res=False)
    pixels = np.asarray(opened(base64.b64decode(answer["images"][0])))
    assert (pixels[:, :32] == (255, 0, 0)).all()
    assert (pixels[:, 32:] == np.asarray(gradient())[:, 32:]).all()
    request = webui.worker.seen[-1]
    assert (request.task, request.masked_content) == (Task.INPAINT, MaskedContent.FILL)
    assert (request.mask_mode, request.noise_multiplier) == (None, None)
    answer = post(webui.client, "img2img", **sent, inpaint_full_res_padding=8)
    request = webui.worker.seen[-1]
    assert (request.inpaint_area, request.mask_padding) == (InpaintArea.MASKED, 8)
    assert info(answer)["extra_generation_params"]["Inpaint area"] == "Only masked"


def test_weights_of_a_lora_are_text_encoder_then_unet(webui: Running) -> None:
    for tag, expected in (
        ("<lora:detail:0.5>", (0.5, None)),
        ("<lora:detail:0.5:0.8>", (0.8, 0.5)),
        ("<lora:detail:0.5:unet=0.8>", (0.8, 0.5)),
        ("<lora:detail:0.5:0.8:lbw=MIDD:stop=11>", (0.8, 0.5)),
    ):
        answer = post(webui.client, "txt2img", prompt=f"a {tag}", steps=20)
        [lora] = webui.worker.seen[-1].loras
        assert (lora.weight, lora.text_encoder_weight) == expected
        assert "<lora:detail:0.5" in info(answer)["prompt"]
    assert (lora.end, lora.block_weights) == (0.5, PRESETS["MIDD"])


def test_hires_fix_and_loras(webui: Running) -> None:
    fields = {"prompt": "a <lora:detail:0.5>", "enable_hr": True, "hr_scale": 1.5, "seed": 2}
    answer = post(webui.client, "txt2img", **fields, width=64, height=64)
    request = webui.worker.seen[-1]
    assert request.enlargement is not None
    assert (request.enlargement.width, request.enlargement.strength) == (96, 0.75)
    assert [lora.name for lora in request.loras] == ["detail"]
    assert info(answer)["prompt"] == "a <lora:detail:0.5>"
    assert info(answer)["denoising_strength"] == 0.75


def test_a_control_image_keeps_its_aspect(webui: Running) -> None:
    """By default it is cut, where the native API stretches it."""
    wide = gradient(128, 64)
    unit = {"image": in_base64(packed(wide)), "model": "canny"}
    for mode, expected in (
        ({}, wide.crop((32, 0, 96, 64))),
        ({"resize_mode": "Just Resize"}, wide.resize((64, 64))),
    ):
        units = {"controlnet": {"args": [{**unit, **mode}]}}
        post(webui.client, "txt2img", prompt="x", alwayson_scripts=units, width=64, height=64)
        [control] = webui.worker.seen[-1].controls
        found = opened(webui.store.get(control.image_key))
        assert found.size == (64, 64)
        distance = np.abs(np.asarray(found, int) - np.asarray(expected, int))
        assert distance.mean() < 3


@pytest.mark.parametrize(
    ("sent", "status", "detail"),
    [
        ({"sampler_name": "Restart"}, 400, "Sampler not found"),
        ({"script_name": "x/y"}, 422, "Script 'x/y' not found"),
        ({"steps": 1000}, 422, "steps is 1000, but must be at most 50"),
        ({"width": 500}, 422, "width is 500, but must be a multiple of 8"),
        ({"batch_size": 3, "n_iter": 3}, 422, "batch_size is 9, but must be at most 4"),
        ({"cfg_scale": 99}, 422, "cfg_scale is 99.0, but must be at most 20"),
        ({"model": "no-such"}, 422, 'sd_model_checkpoint is "no-such", but must be one of tiny'),
        ({"scheduler": "Turbo"}, 422, 'scheduler is "Turbo"'),
        ({"prompt": "<lora:none:1>"}, 422, 'prompt is "none", but must be one of detail'),
        ({"enable_hr": True, "hr_upscaler": "LDSR"}, 422, 'hr_upscaler is "LDSR"'),
        ({"enable_hr": True, "hr_scale": 1}, 422, "hr_scale is 1.0, but must be above 1"),
        ({"refiner_checkpoint": "x"}, 422, 'refiner_checkpoint is "x"'),
        ({"clip_skip": 9}, 422, "CLIP_stop_at_last_layers is 8, but must be at most 2"),
        ({"force_task_id": "x" * 999}, 422, "force_task_id is"),
    ],
)
def test_errors_are_in_the_words_of_the_client(
    webui: Running, sent: dict[str, Any], status: int, detail: str
) -> None:
    found = refused(webui.client, "txt2img", **{"prompt": "x", **sent})
    assert found[0] == status
    assert found[1].startswith(detail)


def test_images_that_are_none_are_refused(webui: Running) -> None:
    assert refused(webui.client, "img2img", prompt="x") == (404, "Init image not found")
    for image in ("no base64!", in_base64(b"no image")):
        status, detail = refused(webui.client, "img2img", prompt="x", init_images=[image])
        assert (status, detail.split()[0]) == (422, "init_images")
    address = "http://127.0.0.1/a.png"
    status, detail = refused(webui.client, "img2img", prompt="x", init_images=[address])
    assert (status, detail.split()[0]) == (422, "init_images")


def test_a_job_that_fails_is_an_error(webui: Running) -> None:
    webui.worker.error = JobFailed("no reason")
    try:
        assert refused(webui.client, "txt2img", prompt="x") == (500, "the job failed: no reason")
    finally:
        webui.worker.error = None


def test_paths_that_are_not_there_have_json(webui: Running) -> None:
    for path in ("/sdapi/v1/interrogate", "/sdapi/x", "/controlnet/x", "/internal/x", "/sdapi/v1"):
        response = webui.client.get(path)
        assert response.status_code == 404
        assert response.json()["detail"]
    assert webui.client.get("/sdapi/v1/txt2img").status_code == 405
    assert refused(webui.client, "interrogate", image=IMAGE)[0] == 404
