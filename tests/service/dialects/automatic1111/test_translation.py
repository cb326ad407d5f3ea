"""Requests of AUTOMATIC1111's API translated into ours, as plain functions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidRequest
from protocol.request.generation_params import parse_params
from protocol.request.tasks import Task
from service.dialects.automatic1111.options import effective_options, model_named, parse_options
from service.dialects.automatic1111.requests import ImageToImage, TextToImage, parse_body
from service.dialects.automatic1111.translation import CLIENT_NAMES, task_of, translate
from service.schemas.requests import REQUESTS
from tests.service.dialects.automatic1111.webui import (
    DATA_URI,
    HASHED_CARD,
    IMAGE,
    MASK,
    SHA256,
    WEBUI_CARD,
)


def translated(kind: type[TextToImage | ImageToImage], **sent: Any) -> dict[str, Any]:
    """Return our fields without those that have their defaults."""
    body = parse_body(kind, sent)
    fields: dict[str, Any] = translate(body, effective_options({}, body), None, WEBUI_CARD).fields
    assert fields.pop("n") >= 1
    assert fields.pop("output_format") == "png"
    assert not fields.pop("previews")
    return {name: value for name, value in fields.items() if value != ""}


def txt2img(**sent: Any) -> dict[str, Any]:
    return translated(TextToImage, **sent)


def img2img(**sent: Any) -> dict[str, Any]:
    return translated(ImageToImage, **{"init_images": [IMAGE], **sent})


def test_image_guidance_is_for_models_that_edit_images() -> None:
    body = parse_body(ImageToImage, {"init_images": [IMAGE], "image_cfg_scale": 1.7})
    assert "image_guidance_scale" not in img2img(image_cfg_scale=1.7)
    edits = WEBUI_CARD.model_copy(update={"default_image_guidance_scale": 1.5})
    fields = translate(body, effective_options({}, body), None, edits).fields
    assert fields["image_guidance_scale"] == 1.7


def inpaint(**sent: Any) -> dict[str, Any]:
    """Return our fields without image and mask."""
    fields = img2img(mask=MASK, **sent)
    assert (fields.pop("image"), fields.pop("mask")) == (IMAGE, MASK)
    return fields


def refusal(kind: type[TextToImage | ImageToImage], **sent: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        translated(kind, **sent)
    return refused.value


def test_what_is_left_out_or_null_is_the_models_default() -> None:
    assert txt2img() == {}
    assert txt2img(**dict.fromkeys(TextToImage.model_fields)) == {}
    assert txt2img(unknown=1, url="http://host", auth="user:password") == {}


def test_numbers_may_be_text_and_have_fractions_of_zero() -> None:
    assert txt2img(seed="-1", steps="20.0", cfg_scale="7.5", width=512.0, height="512") == {
        "seed": -1,
        "steps": 20,
        "guidance_scale": 7.5,
        "width": 512,
        "height": 512,
    }


@pytest.mark.parametrize(
    ("sent", "sampler", "schedule"),
    [
        ({"sampler_name": "Euler a", "scheduler": "karras"}, "euler_ancestral", "karras"),
        ({"sampler_name": "DPM++ 2M Karras"}, "dpmpp_2m", "karras"),
        ({"sampler_name": "DPM++ 2M"}, "dpmpp_2m", "karras"),  # what is automatic for it
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Automatic"}, "dpmpp_2m", "karras"),
        ({"sampler_name": "Euler", "scheduler": "automatic"}, "euler", "linspace"),
        (
            {"sampler_name": "k_euler_a", "scheduler": "SGM Uniform"},
            "euler_ancestral",
            "sgm_uniform",
        ),
        ({"sampler_index": "Heun", "scheduler": "SGMUniform"}, "heun", "sgm_uniform"),
        ({"sampler_name": "euler", "sampler_index": "Heun"}, "euler", "linspace"),
        ({"scheduler": "Karras"}, "ddim", "karras"),
    ],
)
def test_samplers_and_schedulers(sent: Any, sampler: str, schedule: str) -> None:
    assert txt2img(**sent) == {"sampler": sampler, "schedule": schedule}


@pytest.mark.parametrize("name", ["Restart", "DPM fast", "UniPC", "no such sampler"])
def test_unknown_samplers_are_refused(name: str) -> None:
    error = refusal(TextToImage, sampler_name=name)
    assert error.problem == "sampler-not-found"
    assert error.message.startswith("Sampler not found")
    assert name in error.message
    assert "Euler a" in error.message


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"sampler_name": "Euler a", "eta": 0.5}, "eta"),
        ({"sampler_name": "Euler a", "s_noise": 1.01}, "s_noise"),
        ({"sampler_name": "Euler", "s_churn": 2}, "s_churn"),
        ({"s_min_uncond": 1, "sampler_name": "DPM++ 2M"}, "s_min_uncond"),
        ({"restore_faces": True}, "restore_faces"),
        ({"tiling": 1}, "tiling"),
        ({"subseed_strength": 0.1}, "subseed_strength"),
        ({"seed_resize_from_w": 256, "width": 512}, "seed_resize_from_w"),
        ({"prompt": "a [cat:dog:0.5]"}, "prompt"),
        ({"prompt": "a [cat|dog]"}, "prompt"),
        ({"negative_prompt": "<hypernet:x:1>"}, "negative_prompt"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_iter": -1}, "n_iter"),
        ({"steps": "many"}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"styles": "x"}, "styles"),
        ({"override_settings": []}, "override_settings"),
        ({"override_settings": {"sd_vae": "other.pt"}}, "sd_vae"),
        ({"override_settings": {"samples_format": "gif"}}, "samples_format"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 0}}, "CLIP_stop_at_last_layers"),
        ({"override_settings": {"eta_noise_seed_delta": 31337}}, "eta_noise_seed_delta"),
        ({"override_settings": {"forge_additional_modules": ["x"]}}, "forge_additional_modules"),
    ],
)
def test_what_would_change_the_image_and_is_not_done_is_refused_by_name(
    sent: Any, field: str
) -> None:
    assert refusal(TextToImage, **sent).field == field


def test_what_is_switched_off_or_has_no_effect_is_accepted() -> None:
    """As webuiapi and aiyabot send it."""
    off: dict[str, Any] = {
        "restore_faces": False,
        "tiling": False,
        "subseed": -1,
        "subseed_strength": 0.0,
    }
    off |= {"seed_resize_from_h": 0, "seed_resize_from_w": 0, "styles": ["None", "x"]}
    off |= {"s_churn": 0, "s_tmax": 0, "s_tmin": 0, "s_noise": 1, "eta": 1.0}
    off |= {"script_name": None, "script_args": [], "alwayson_scripts": {}, "hr_prompt": "y"}
    off |= {"hr_sampler_name": "Heun", "hr_upscaler": "LDSR", "denoising_strength": None}
    off |= {"override_settings": {"sd_vae": "Automatic", "unknown": [1]}, "save_images": True}
    assert txt2img(**off, sampler_name="Euler a") == {
        "sampler": "euler_ancestral",
        "schedule": "linspace",
    }


def test_eta_is_for_ddim() -> None:
    assert txt2img(sampler_name="DDIM", eta=0.5)["eta"] == 0.5
    assert txt2img(eta=0.25) == {"eta": 0.25}  # ddim is the model's sampler
    assert "eta" not in txt2img(sampler_name="Euler", eta=0.5)  # Euler reads none


def test_prompts_keep_loras_unless_they_are_switched_off() -> None:
    prompt = "a cat <lora:detail:0.5> (big:1.2) [small]"
    assert txt2img(prompt=prompt) == {"prompt": prompt}
    assert txt2img(prompt="<lyco:detail:0.5>") == {"prompt": "<lora:detail:0.5>"}
    switched_off = txt2img(prompt=prompt, disable_extra_networks=True)
    assert switched_off == {"prompt": "a cat  (big:1.2) [small]"}


def test_hires_fix() -> None:
    base = {"enable_hr": True, "width": 64, "height": 96}
    size = {"width": 64, "height": 96}
    assert txt2img(**base) == size | {
        "hires_scale": 2.0,
        "hires_strength": 0.75,
        "hires_upscaler": "latent",
    }
    assert txt2img(
        **base,
        hr_scale=1.5,
        hr_second_pass_steps=7,
        hr_upscaler="Lanczos",
        denoising_strength=0.4,
        hr_sampler_name="Use same sampler",
        hr_checkpoint_name="Use same checkpoint",
    ) == size | {
        "hires_scale": 1.5,
        "hires_steps": 7,
        "hires_upscaler": "lanczos",
        "hires_strength": 0.4,
    }
    for resized in (
        {"hr_resize_x": 96, "hr_resize_y": 144},
        {"hr_resize_x": 96},
        {"hr_resize_y": 144},
    ):
        assert txt2img(**base, **resized)["hires_scale"] == 1.5
    two_sizes = {"width": 128, "height": 128, "firstphase_width": 64, "firstphase_height": 64}
    found = txt2img(enable_hr=True, **two_sizes)
    assert (found["width"], found["height"], found["hires_scale"]) == (64, 64, 2.0)
    assert txt2img(**base, hr_upscaler="4x-net")["hires_upscaler"] == "4x-net"
    assert txt2img(**base, hr_upscaler="None")["hires_upscaler"] == "lanczos"
    nearest = txt2img(**base, hr_upscaler="Latent (nearest-exact)")
    assert nearest["hires_upscaler"] == "latent-nearest-exact"
    assert "hires_upscaler" not in txt2img(**base, hr_upscaler="Latent (bicubic antialiased)")


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"hr_resize_x": 128, "hr_resize_y": 64}, "hr_resize_x"),
        ({"hr_prompt": "another"}, "hr_prompt"),
        ({"hr_negative_prompt": "another"}, "hr_negative_prompt"),
        ({"hr_sampler_name": "Euler"}, "hr_sampler_name"),
        ({"hr_scheduler": "Karras"}, "hr_scheduler"),
        ({"hr_checkpoint_name": "other"}, "hr_checkpoint_name"),
        ({"firstpass_image": IMAGE}, "firstpass_image"),
    ],
)
def test_other_second_passes_are_refused(sent: Any, field: str) -> None:
    fields = {"enable_hr": True, "sampler_name": "Euler a", "width": 64, "height": 64}
    assert refusal(TextToImage, **{**fields, **sent}).field == field


def test_refiner() -> None:
    found = txt2img(
        refiner_checkpoint="tiny-refiner.safetensors [0123456789]", refiner_switch_at=0.7
    )
    assert found == {"refiner": "tiny-refiner", "refiner_start": 0.7}
    assert txt2img(refiner_checkpoint="tiny-refiner", refiner_switch_at=1.0) == {}
    assert txt2img(refiner_checkpoint="None", refiner_switch_at=0.8) == {}
    assert txt2img(refiner_checkpoint="x") == {"refiner": "x"}  # which validation refuses


def test_image_to_image() -> None:
    assert img2img() == {"image": IMAGE, "strength": 0.75}
    sized = img2img(width=64, height=64, resize_mode=2, denoising_strength=0.3)
    assert sized["resize_mode"] == "fill"
    assert sized["strength"] == 0.3
    assert img2img(init_images=[DATA_URI + IMAGE])["image"] == DATA_URI + IMAGE
    assert img2img(initial_noise_multiplier=0.9)["noise_multiplier"] == 0.9
    option = {"override_settings": {"initial_noise_multiplier": 0.8}}
    assert img2img(**option)["noise_multiplier"] == 0.8
    address = "https://example.org/a.png"
    assert img2img(init_images=[address]) == {"image_url": address, "strength": 0.75}


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"init_images": None}, "init_images"),
        ({"init_images": []}, "init_images"),
        ({"init_images": [""]}, "init_images"),
        ({"init_images": [IMAGE, ""]}, "init_images"),
        ({"resize_mode": 3}, "resize_mode"),
        ({"resize_mode": 4}, "resize_mode"),
        ({"mask": MASK, "inpainting_fill": 4}, "inpainting_fill"),
        ({"mask": MASK, "mask_blur_x": 4, "mask_blur_y": 8}, "mask_blur_y"),
        ({"mask": MASK, "latent_mask": IMAGE}, "latent_mask"),
    ],
)
def test_images_and_masks_that_are_refused(sent: Any, field: str) -> None:
    assert refusal(ImageToImage, **{"init_images": [IMAGE], **sent}).field == field


def test_inpainting() -> None:
    only_masked = {"inpaint_area": "masked", "mask_padding": 0}
    common = {"strength": 0.75, "mask_blur": 4, "masked_content": "fill"}
    assert inpaint() == common | only_masked
    assert inpaint(inpaint_full_res=0, mask_blur=0, inpainting_fill=1) == {
        "strength": 0.75,
        "mask_blur": 0,
        "masked_content": "original",
    }
    found = inpaint(
        mask_blur_x=9,
        mask_blur_y=9,
        inpaint_full_res_padding=32,
        inpainting_mask_invert=1,
        mask_round=False,
        inpainting_fill=3,
        latent_mask=MASK,
        width=64,
        height=64,
        resize_mode=3,  # of no effect where only the masked area is generated
    )
    assert found == {
        "strength": 0.75,
        "width": 64,
        "height": 64,
        "inpaint_area": "masked",
        "mask_padding": 32,
        "mask_blur": 9,
        "mask_invert": True,
        "mask_mode": "soft",
        "masked_content": "nothing",
    }
    whole = inpaint(inpaint_full_res=False, width=64, height=64, resize_mode=1)
    assert whole["resize_mode"] == "crop"
    assert task_of(parse_body(ImageToImage, {"mask": MASK})) is Task.INPAINT
    assert task_of(parse_body(ImageToImage, {"mask": ""})) is Task.IMG2IMG


def test_an_infotext_fills_in_what_is_not_given() -> None:
    infotext = (
        "a cat\nNegative prompt: dog\nSteps: 30, Sampler: Heun, Schedule type: Karras, "
        "CFG scale: 6, Seed: 5, Size: 64x96, Model: other, Clip skip: 2"
    )
    assert txt2img(infotext=infotext, seed=9) == {
        "prompt": "a cat",
        "negative_prompt": "dog",
        "steps": 30,
        "sampler": "heun",
        "schedule": "karras",
        "guidance_scale": 6,
        "seed": 9,
        "width": 64,
        "height": 96,
        "clip_skip": 1,
    }
    assert txt2img(infotext=infotext, prompt="a horse")["prompt"] == "a horse"


def test_options_of_a_request_are_before_the_clients_own() -> None:
    chosen: dict[str, Any] = {
        "CLIP_stop_at_last_layers": 2,
        "samples_format": "jpg",
        "jpeg_quality": 70,
    }
    own = effective_options(chosen, parse_body(TextToImage, {}))
    assert (own.CLIP_stop_at_last_layers, own.samples_format, own.jpeg_quality) == (2, "jpg", 70)
    body = {"clip_skip": 3, "override_settings": {"samples_format": "webp"}}
    overridden = effective_options(chosen, parse_body(TextToImage, body))
    assert overridden.CLIP_stop_at_last_layers == 3
    assert overridden.samples_format == "webp"
    fields = translate(parse_body(TextToImage, body), overridden, "tiny", WEBUI_CARD).fields
    assert {name: fields[name] for name in ("model", "clip_skip", "output_format", "quality")} == {
        "model": "tiny",
        "clip_skip": 2,
        "output_format": "webp",
        "quality": 70,
    }


@pytest.mark.parametrize(
    "title",
    [
        "tiny",
        "tiny.safetensors",
        "tiny.safetensors [0123456789]",
        "tiny [0123456789]",
        "tiny.CKPT",
        "small",
    ],
)
def test_a_model_is_known_by_every_spelling_of_its_title(title: str) -> None:
    card = WEBUI_CARD.model_copy(update={"aliases": ("small",)})
    assert model_named(title, {"tiny": card}) == "tiny"


@pytest.mark.parametrize(
    "title",
    [
        *("tiny", "tiny [0123456789]", "tiny.ckpt [ffffffffff]", "0123456789", SHA256),
        *("renamed.safetensors [0123456789]", f"renamed [{SHA256.upper()}]", "0123456789".upper()),
    ],
)
def test_a_model_is_known_by_the_hash_of_its_file(title: str) -> None:
    other = WEBUI_CARD.model_copy(update={"name": "other", "sha256": "f" * 64})
    assert model_named(title, {"other": other, "tiny": HASHED_CARD}) == "tiny"


@pytest.mark.parametrize(
    "title", ["012345678", "01234567890", "renamed [0123]", "0" * 10, "renamed [0000000000]", ""]
)
def test_other_hashes_are_unknown_titles(title: str) -> None:
    assert model_named(title, {"tiny": HASHED_CARD, "folder": WEBUI_CARD}) == title


def test_an_unknown_title_is_kept_for_the_error() -> None:
    assert model_named("other.ckpt", {"tiny": WEBUI_CARD}) == "other.ckpt"


def test_options_without_effect_are_dropped() -> None:
    assert parse_options({"sd_vae": "None", "unknown": 1, "samples_format": None}) == {
        "sd_vae": "None"
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
NAMES = sorted(TextToImage.model_fields.keys() | ImageToImage.model_fields.keys())
LIKELY = st.sampled_from(
    [0, 1, "1", 2.0, True, "", "None", IMAGE, [IMAGE], "Euler a", [], {}, "Latent", -1, 1e300]
)


@given(st.dictionaries(st.sampled_from(NAMES), LIKELY | JSON, max_size=12), st.booleans())
def test_any_json_is_translated_or_refused(sent: dict[str, Any], from_image: bool) -> None:
    """A translation has fields of ours only, which our own validation takes or refuses."""
    kind = ImageToImage if from_image else TextToImage
    try:
        body = parse_body(kind, sent)
        options = effective_options({}, body)
        translation = translate(body, options, None, WEBUI_CARD)
        fields = {name: v for name, v in translation.fields.items() if "_url" not in name}
        parse_params(REQUESTS[task_of(body)], fields)
    except InvalidRequest as error:
        assert error.problem != "unknown-field", error.message
    else:
        assert CLIENT_NAMES.items() <= translation.names.items()
