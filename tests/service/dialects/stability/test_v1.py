"""Version 1: text to image, image to image, masking, upscaling."""

from typing import Any

import pytest
from PIL import Image

from protocol.errors import JobFailed
from protocol.queue.job import FinishReason
from protocol.request.inpainting import MaskMode
from tests.service.conftest import Running
from tests.service.dialects.stability.asking import V1, check_error, native, v1
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed

IMAGE = packed(gradient())
MASK = packed(left_half_white())
PROMPTS: list[dict[str, object]] = [{"text": "a cat"}, {"text": "a dog", "weight": -0.5}]
PNG = {"Accept": "image/png"}


def artifacts(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["artifacts"]
    return found


def test_text_to_image_is_the_native_request(stability: Running) -> None:
    fields: dict[str, object] = {
        "text_prompts": PROMPTS,
        "width": 128,
        "height": 64,
        "cfg_scale": 6,
        "sampler": "K_EULER_ANCESTRAL",
        "steps": 12,
        "seed": 7,
        "samples": 2,
    }
    found = artifacts(v1(stability, "text-to-image", **fields))
    asked = stability.worker.seen[-1]
    image, same = native(
        stability,
        "txt2img",
        prompt="a cat",
        negative_prompt="(a dog:0.5)",
        width=128,
        height=64,
        guidance_scale=6,
        sampler="euler_ancestral",
        steps=12,
        seed=7,
        n=2,
    )
    assert asked == same
    assert found[0] == {"base64": image, "seed": 7, "finishReason": "SUCCESS"}
    assert found[1]["seed"] == 8


def test_what_is_left_out_is_the_models(stability: Running) -> None:
    [one] = artifacts(v1(stability, "text-to-image"))
    assert 0 <= one["seed"] < 2**32
    asked = stability.worker.seen[-1]
    assert (asked.width, asked.height, asked.steps, asked.guidance_scale) == (64, 64, 4, 5.0)
    v1(stability, "text-to-image", width=128).raise_for_status()
    assert (stability.worker.seen[-1].width, stability.worker.seen[-1].height) == (128, 64)


def test_the_file_itself(stability: Running) -> None:
    fields: dict[str, object] = {"text_prompts": PROMPTS, "seed": 4294967295}
    response = stability.client.post(f"{V1}/text-to-image", json=fields, headers=PNG)
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Seed"] == "4294967295"
    assert response.headers["Finish-Reason"] == "SUCCESS"
    assert opened(response.content).format == "PNG"
    several = {**fields, "seed": 0, "samples": 2}
    response = stability.client.post(f"{V1}/text-to-image", json=several, headers=PNG)
    assert "samples is 2" in check_error(response, 400, "invalid_samples")
    response = stability.client.post(
        f"{V1}/text-to-image", json=fields, headers={"Accept": "image/gif"}
    )
    check_error(response, 400, "bad_request")


def test_a_form_is_the_same_as_json(stability: Running) -> None:
    fields = {"init_image": in_base64(IMAGE), "text_prompts": PROMPTS, "seed": 5, "samples": 1}
    artifacts(v1(stability, "image-to-image", **fields))
    by_json = stability.worker.seen[-1]
    form = {
        "text_prompts[7][text]": "a dog",
        "text_prompts[7][weight]": "-0.5",
        "text_prompts[1][text]": "a cat",
        "seed": "5",
        "samples": "1",
        "steps": "",
        "unknown": "x",
    }
    files = {"init_image": ("a.png", IMAGE), "none": ("", b"")}
    artifacts(stability.client.post(f"{V1}/image-to-image", data=form, files=files))
    assert stability.worker.seen[-1] == by_json
    listed = {"text_prompts": '[{"text": "a cat"}, {"text": "a dog", "weight": -0.5}]', "seed": 5}
    artifacts(stability.client.post(f"{V1}/image-to-image", data=listed, files=files))
    assert stability.worker.seen[-1] == by_json


@pytest.mark.parametrize(
    ("fields", "strength"),
    [
        ({}, 0.65),
        ({"image_strength": 0.1}, 0.9),
        ({"image_strength": 0.1, "step_schedule_start": 0.3}, 0.9),
        ({"init_image_mode": "STEP_SCHEDULE"}, 0.65),
        ({"init_image_mode": "STEP_SCHEDULE", "step_schedule_start": 0.3}, 0.3),
    ],
)
def test_image_to_image(stability: Running, fields: dict[str, object], strength: float) -> None:
    image = in_base64(IMAGE)
    [one] = artifacts(v1(stability, "image-to-image", init_image=image, seed=3, **fields))
    asked = stability.worker.seen[-1]
    ours, same = native(
        stability, "img2img", prompt="a cat", image=image, strength=strength, seed=3
    )
    assert (asked, one["base64"]) == (same, ours)


def test_too_little_change_is_refused_in_the_clients_words(stability: Running) -> None:
    fields = {"init_image": in_base64(IMAGE), "steps": 3}
    said = check_error(
        v1(stability, "image-to-image", image_strength=0.9, **fields), 400, "bad_request"
    )
    assert said.startswith("image_strength is 0.9, but must be at most 0.666666")
    artifacts(v1(stability, "image-to-image", image_strength=0.666666, **fields))
    for wrong in ({"image_strength": 1}, {"step_schedule_end": 0.2}):
        check_error(v1(stability, "image-to-image", **wrong, **fields), 400, "bad_request")


@pytest.mark.parametrize(
    ("source", "inverted"), [("MASK_IMAGE_WHITE", False), ("MASK_IMAGE_BLACK", True)]
)
def test_masking_by_an_image(stability: Running, source: str, inverted: bool) -> None:
    images = {"init_image": in_base64(IMAGE), "mask_image": in_base64(MASK)}
    response = v1(stability, "image-to-image/masking", mask_source=source, seed=3, **images)
    [one] = artifacts(response)
    asked = stability.worker.seen[-1]
    ours, same = native(
        stability,
        "inpaint",
        prompt="a cat",
        image=images["init_image"],
        mask=images["mask_image"],
        mask_mode=MaskMode.SOFT,
        mask_invert=inverted,
        strength=1.0,
        seed=3,
    )
    assert (asked, one["base64"]) == (same, ours)
    red = (255, 0, 0)
    pixels = [opened(one["base64"]).convert("RGB").getpixel((x, 32)) for x in (4, 60)]
    assert [pixel == red for pixel in pixels] == [not inverted, inverted]


def test_masking_by_transparency(stability: Running) -> None:
    image = gradient().convert("RGBA")
    image.paste((0, 0, 0, 0), (32, 0, 64, 64))
    sent = in_base64(packed(image))
    fields = {"init_image": sent, "mask_source": "INIT_IMAGE_ALPHA", "seed": 3}
    [one] = artifacts(v1(stability, "image-to-image/masking", **fields))
    asked = stability.worker.seen[-1]
    ours, same = native(
        stability,
        "inpaint",
        prompt="a cat",
        image=sent,
        mask_source="alpha",
        mask_mode=MaskMode.SOFT,
        strength=1.0,
        seed=3,
    )
    assert (asked, one["base64"]) == (same, ours)
    opaque = in_base64(IMAGE)
    fields = {"init_image": opaque, "mask_source": "INIT_IMAGE_ALPHA"}
    said = check_error(v1(stability, "image-to-image/masking", **fields), 400, "bad_request")
    assert said.startswith("init_image is")


def test_masks_that_cannot_be_used(stability: Running) -> None:
    fields = {"init_image": in_base64(IMAGE), "mask_source": "MASK_IMAGE_WHITE"}
    check_error(v1(stability, "image-to-image/masking", **fields), 400, "invalid_mask_image")
    wide = in_base64(packed(Image.new("L", (64, 16))))
    response = v1(stability, "image-to-image/masking", mask_image=wide, **fields)
    assert check_error(response, 400, "invalid_image_dimensions").startswith("mask_image is")
    fields["mask_source"] = "MASK"
    check_error(v1(stability, "image-to-image/masking", **fields), 400, "bad_request")


def test_an_image_out_of_the_models_bounds(stability: Running) -> None:
    """It is changed in the model's best size of its aspect; a masked one keeps its size."""
    large = in_base64(packed(gradient(400, 300)))
    [one] = artifacts(v1(stability, "image-to-image", init_image=large))
    width, height = opened(one["base64"]).size
    assert width * 3 == height * 4
    mask = in_base64(packed(left_half_white(400, 300)))
    fields = {"init_image": large, "mask_image": mask, "mask_source": "MASK_IMAGE_WHITE"}
    [one] = artifacts(v1(stability, "image-to-image/masking", **fields))
    assert opened(one["base64"]).size == (400, 300)


def upscaled(stability: Running, engine: str, **fields: object) -> Any:
    path = f"/v1/generation/{engine}/image-to-image/upscale"
    return stability.client.post(path, json={"image": in_base64(IMAGE), **fields})


@pytest.mark.parametrize(
    ("engine", "upscaler"),
    [("lanczos", "lanczos"), ("esrgan", "esrgan"), ("esrgan-v1-x2plus", "esrgan")],
)
@pytest.mark.parametrize(
    ("fields", "scale"), [({}, 2.0), ({"width": 160}, 2.5), ({"height": 512}, 8.0)]
)
def test_upscale(
    stability: Running, engine: str, upscaler: str, fields: dict[str, object], scale: float
) -> None:
    [one] = artifacts(upscaled(stability, engine, seed=3, **fields))
    asked = stability.worker.seen[-1]
    image = in_base64(IMAGE)
    ours, same = native(stability, "upscale", image=image, upscaler=upscaler, scale=scale, seed=3)
    assert (asked, one["base64"]) == (same, ours)
    assert opened(one["base64"]).size == (64 * scale, 64 * scale)


def test_upscaling_that_is_refused(stability: Running) -> None:
    for fields, said in (
        ({"width": 128, "height": 128}, "height is 128"),
        ({"width": 32}, "width is 32"),
        ({"height": 64 * 16 + 1}, "height is 1025"),
        ({"text_prompts": [{"text": "x"}]}, "text_prompts is"),
        ({"steps": 20}, "steps is 20"),
    ):
        response = upscaled(stability, "lanczos", **fields)
        assert check_error(response, 400, "bad_request").startswith(said)
    check_error(upscaled(stability, "nope"), 404, "not_found")
    check_error(upscaled(stability, "tiny"), 400, "bad_request")  # it does not upscale


@pytest.mark.parametrize(
    "engine", ["stable-diffusion-v1-6", "stable-diffusion-xl-1024-v1-0", "tiny"]
)
def test_engines(stability: Running, engine: str) -> None:
    path = f"/v1/generation/{engine}/text-to-image"
    artifacts(stability.client.post(path, json={"text_prompts": PROMPTS}))
    assert stability.worker.seen[-1].model == "tiny"


def test_an_unknown_engine(stability: Running) -> None:
    path = "/v1/generation/nope/text-to-image"
    response = stability.client.post(path, json={"text_prompts": PROMPTS})
    assert check_error(response, 404, "not_found").startswith('engine_id is "nope"')


def test_style_presets(stability: Running) -> None:
    """A preset is a LoRA of its name, or nothing that can be done."""
    v1(stability, "text-to-image", style_preset="pixel-art").raise_for_status()
    [lora] = stability.worker.seen[-1].loras
    assert (lora.name, lora.weight) == ("pixel-art", 1.0)
    response = v1(stability, "text-to-image", style_preset="anime")
    assert check_error(response, 400, "bad_request").startswith('style_preset is "anime"')
    check_error(v1(stability, "text-to-image", style_preset="x"), 400, "bad_request")


@pytest.mark.parametrize(
    ("fields", "name", "said"),
    [
        ({"width": 100}, "invalid_height_or_width", "width is 100"),
        ({"width": 1024, "height": 64}, "invalid_height_or_width", "width is 1024"),
        ({"width": 256, "height": 256}, "invalid_pixel_count", "width is"),
        ({"text_prompts": []}, "bad_request", "text_prompts is"),
        ({"text_prompts": [{"text": "x " * 30}]}, "bad_request", 'text_prompts is "30 tokens"'),
        ({"text_prompts": [{"weight": 1}]}, "bad_request", "text_prompts.0.text is missing"),
        ({"text_prompts": [{"text": "x", "weight": 11}]}, "bad_request", "text_prompts.0.weight"),
        ({"samples": 11}, "bad_request", "samples is 11"),
        ({"samples": 5}, "bad_request", "samples is 5"),
        ({"seed": 2**32}, "bad_request", "seed is 4294967296"),
        ({"seed": 2**32 - 1, "samples": 2}, "bad_request", "seed is 4294967295"),
        ({"steps": 60}, "bad_request", "steps is 60"),
        ({"cfg_scale": 25}, "bad_request", "cfg_scale is 25"),
        ({"sampler": "K_HEUN"}, "bad_request", 'sampler is "heun"'),
        ({"clip_guidance_preset": "FAST"}, "bad_request", "clip_guidance_preset is"),
    ],
)
def test_errors_name_the_clients_field(
    stability: Running, fields: dict[str, object], name: str, said: str
) -> None:
    assert check_error(v1(stability, "text-to-image", **fields), 400, name).startswith(said)


def test_images_that_cannot_be_read(stability: Running) -> None:
    response = v1(stability, "image-to-image", init_image=in_base64(b"GIF89a" + bytes(50)))
    assert check_error(response, 400, "invalid_mime_type").startswith("init_image is")
    response = v1(stability, "image-to-image")
    assert check_error(response, 400, "bad_request").startswith("init_image is missing")


def test_flagged_and_failed_images(stability: Running) -> None:
    worker = stability.worker
    worker.finish_reason = FinishReason.CONTENT_FILTERED
    [one] = artifacts(v1(stability, "text-to-image"))
    assert one["finishReason"] == "CONTENT_FILTERED"
    worker.finish_reason, worker.error = FinishReason.SUCCESS, JobFailed("out of memory")
    said = check_error(v1(stability, "text-to-image"), 500, "server_error")
    worker.error = None
    assert "out of memory" in said


def test_a_retry_with_the_same_key_is_the_same_job(stability: Running) -> None:
    headers = {"Idempotency-Key": "a retry"}
    body = {"text_prompts": PROMPTS}
    answers = [
        artifacts(stability.client.post(f"{V1}/text-to-image", json=body, headers=headers))
        for _ in range(2)
    ]
    assert answers[0] == answers[1]


def test_list_of_engines(stability: Running) -> None:
    engines = stability.client.get("/v1/engines/list").json()
    assert [one["id"] for one in engines] == ["tiny", "esrgan", "lanczos", "nearest"]
    assert {one["type"] for one in engines} == {"PICTURE"}
    assert all(one["name"] and one["description"] for one in engines)


def test_warnings_are_in_a_header(stability: Running) -> None:
    black = in_base64(packed(Image.new("L", (64, 64))))
    fields = {
        "init_image": in_base64(IMAGE),
        "mask_image": black,
        "mask_source": "MASK_IMAGE_WHITE",
    }
    response = v1(stability, "image-to-image/masking", **fields)
    artifacts(response)
    assert "mask-empty" in response.headers["Darkroom-Warnings"]
