"""A recipe, ours or the infotext, gives the same request again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.samplers import SAMPLERS, SCHEDULES
from protocol.errors import InvalidRequest
from protocol.recipes.infotext import parse_infotext
from protocol.recipes.recipe import Recipe, recipe_of_infotext, recipe_of_request
from protocol.recipes.request_infotext import request_infotext
from protocol.request.generation_params import GenerationParams, InputImage, parse_params
from protocol.request.inpainting import Paste, PixelBox
from protocol.request.model_card import ModelCard, UpscalerInfo
from protocol.request.object_keys import OutputFormat, input_key
from protocol.request.request import GenerationRequest
from protocol.request.resolve import resolve
from protocol.request.samplers import LATENT_MODES
from protocol.request.tasks import FIELDS_OF, TASK_FIELDS, Task
from tests.protocol.recipes import a1111_parser
from tests.protocol.records import CARD, requests

ABLE = CARD.model_copy(
    update={
        "tasks": tuple(Task),
        "samplers": tuple(SAMPLERS),
        "schedules": tuple(SCHEDULES),
        "default_sampler": "ddim",
        "default_eta": 0.5,
        "loras": ("grain", "paint, oil 2"),
        "controlnets": ("canny",),
        "refiners": ("refiner",),
        "upscalers": (UpscalerInfo(name="4x-UltraSharp", scale=4),),
        "max_side": 512,
        "max_pixels": 512 * 512,
        "max_prompt_tokens": 1000,
        "max_clip_skip": 4,
        "classes": 10,
        "max_boxes": 4,
        "upscale_factor": 2,
        "reads_aesthetic_score": True,
        "default_image_guidance_scale": 1.5,
        "default_noise_level": 20,
        "max_noise_level": 350,
    }
)
IMAGE = InputImage(key=input_key(b"image"), width=64, height=48)
MASK = InputImage(key=input_key(b"mask"), width=64, height=48)
CONTROL = InputImage(key=input_key(b"control"), width=64, height=48)

shares = st.floats(0, 1)
prompts = st.text('ab (),:"\\[]<>1.3é♥\n', max_size=40).map(str.strip)
loras = st.fixed_dictionaries(
    {"name": st.sampled_from(ABLE.loras), "weight": st.floats(-2, 2).map(lambda w: round(w, 5))}
)
control = st.fixed_dictionaries(
    {"model": st.just("canny"), "weight": st.floats(0, 2), "start": st.just(0.1), "end": shares}
)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "negative_prompt": prompts,
    "prompt_syntax": st.sampled_from(["weights", "plain"]),
    "clip_skip": st.integers(0, 4),
    "width": st.sampled_from([64, 128]),
    "height": st.sampled_from([64, 96]),
    "steps": st.integers(2, 50),
    "sampler": st.sampled_from(ABLE.samplers),
    "schedule": st.sampled_from(ABLE.schedules),
    "eta": shares,
    "guidance_scale": st.floats(0, 30),
    "image_guidance_scale": st.floats(1, 20),
    "noise_level": st.integers(0, 350),
    "guidance_rescale": shares,
    "guidance_start": st.floats(0, 0.5),
    "guidance_end": st.floats(0.5, 1),
    "strength": st.floats(0.5, 1),
    "noise_multiplier": st.floats(0, 1.5),
    "resize_mode": st.sampled_from(["stretch", "crop", "fill"]),
    "mask_blur": st.integers(0, 64),
    "mask_grow": st.integers(-64, 64),
    "mask_invert": st.booleans(),
    "mask_source": st.sampled_from(["file", "alpha"]),
    "mask_mode": st.sampled_from(["hard", "soft"]),
    "inpaint_area": st.sampled_from(["whole", "masked"]),
    "mask_padding": st.integers(0, 512),
    "masked_content": st.sampled_from(["original", "fill", "noise", "nothing"]),
    "loras": st.lists(loras, max_size=2),
    "controls": st.lists(control, max_size=2),
    "refiner": st.just("refiner"),
    "refiner_start": st.floats(0.1, 0.9),
    "aesthetic_score": st.floats(0, 10),
    "hires_scale": st.floats(1.01, 3),
    "hires_steps": st.integers(4, 50),
    "hires_strength": st.floats(0.5, 1),
    "hires_upscaler": st.sampled_from(["4x-UltraSharp", "lanczos", "nearest", *LATENT_MODES]),
    "tile_size": st.sampled_from([64, 128]),
    "upscaler": st.sampled_from(["4x-UltraSharp", "lanczos"]),
    "scale": st.floats(1, 4),
    "output_format": st.sampled_from(["png", "jpeg", "webp", "avif"]),
    "quality": st.integers(1, 100),
}
A1111_TASKS = (Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT)


def resolved(task: Task, fields: dict[str, Any], card: ModelCard = ABLE) -> GenerationRequest:
    params = parse_params(GenerationParams, fields)
    controls = [CONTROL] * len(params.controls or ())
    image = IMAGE if task.takes_image else None
    mask = MASK if task.takes_mask and params.mask_source != "alpha" else None
    if task.takes_mask and mask is None:
        mask = MASK  # the service makes it of the transparency
    return resolve(task, params, card, lambda text: len(text), image, mask, controls)


@st.composite
def resolvable(draw: st.DrawFn, tasks: tuple[Task, ...]) -> GenerationRequest:
    """Requests of random fields, of which those that contradict others are left out."""
    task = draw(st.sampled_from(tasks))
    unused = TASK_FIELDS - FIELDS_OF[task]
    fields: dict[str, Any] = {"seed": draw(st.integers(0, 2**53 - 2))}
    if task.takes("prompt"):
        fields["prompt"] = draw(prompts)
    if task is Task.CLASS:
        fields["class_id"] = draw(st.integers(0, 9))
    if task is Task.LAYOUT:
        fields["boxes"] = [{"class": 3, "x": 0.7, "y": 0, "width": 0.3, "height": 1}]
    if task is Task.OUTPAINT:
        fields["left"] = 24
    request = resolved(task, fields)
    for name in draw(st.permutations(sorted(set(OPTIONS) - unused))):
        more = {**fields, name: draw(OPTIONS[name])} if draw(st.booleans()) else fields
        try:
            request, fields = resolved(task, more), more
        except InvalidRequest:
            continue
    return request


def again(recipe: Recipe | None, **further: Any) -> GenerationRequest:
    assert recipe is not None
    return resolved(recipe.task, recipe.fields | further)


@given(resolvable(tuple(Task)))
def test_our_recipe_gives_the_same_request(request_: GenerationRequest) -> None:
    recipe = recipe_of_request(request_.model_dump_json())
    assert again(recipe).model_dump() == request_.model_dump()


def test_recipe_of_an_upscaler_gives_the_same_request() -> None:
    request = resolved(Task.UPSCALE, {"seed": 1, "upscaler": "lanczos", "prompt_syntax": "plain"})
    assert again(recipe_of_request(request.model_dump_json())) == request


@given(resolvable(A1111_TASKS))
def test_infotext_gives_the_same_request(request_: GenerationRequest) -> None:
    text = request_infotext(request_, request_.seed)
    recipe = recipe_of_infotext(parse_infotext(text))
    found = again(recipe, output_format=request_.output_format.value)
    assert effective(found) == effective(request_)
    assert a1111_parser.parse(text)["Version"].startswith("Darkroom")


def effective(request: GenerationRequest) -> dict[str, Any]:
    """Return the fields without what makes no difference.

    White space at the ends of lines is no part of any token, and quality no part of a PNG.
    """
    fields = request.model_dump(mode="json")
    for name in ("prompt", "negative_prompt"):
        fields[name] = "\n".join(filter(None, map(str.strip, fields[name].split("\n"))))
    if request.output_format is OutputFormat.PNG:
        del fields["quality"]
    defaults = {"mask_blur": 0, "mask_invert": False, "inpaint_area": "whole", "mask_padding": 32}
    return defaults | fields


def test_infotext_has_the_names_and_order_of_automatic1111() -> None:
    request = resolved(
        Task.TXT2IMG,
        {
            "prompt": "a cat", "negative_prompt": "dogs", "seed": 7, "steps": 20,
            "sampler": "dpmpp_2m", "schedule": "karras", "guidance_scale": 7.0, "clip_skip": 1,
            "width": 64, "height": 64, "hires_scale": 1.5, "hires_strength": 0.7,
            "loras": [{"name": "grain", "weight": 0.8}],
        },
    )  # fmt: skip
    assert request_infotext(request, 9).rpartition(", Version: ")[0] == (
        "a cat<lora:grain:0.8>\nNegative prompt: dogs\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 9, Size: 64x64, "
        "Model: tiny, Denoising strength: 0.7, Clip skip: 2, Hires upscale: 1.5, Hires steps: 20, "
        "Hires upscaler: Latent (bicubic antialiased)"
    )


def test_infotext_of_inpainting_has_its_mask_fields() -> None:
    fields = {"prompt": "a cat", "mask_blur": 4, "mask_invert": True, "masked_content": "noise"}
    area = {"inpaint_area": "masked", "mask_padding": 12}
    found = a1111_parser.parse(request_infotext(resolved(Task.INPAINT, fields | area), 1))
    assert found["Denoising strength"] == "0.75"
    assert found["Mask mode"] == "Inpaint not masked"
    assert (found["Mask blur"], found["Inpaint area"]) == ("4", "Only masked")
    assert (found["Masked area padding"], found["Masked content"]) == ("12", "latent noise")


@given(requests())
def test_every_request_has_an_infotext(request_: GenerationRequest) -> None:
    found = parse_infotext(request_infotext(request_, 5))
    assert found.parameters["Seed"] == "5"
    assert found.parameters["Steps"] == str(request_.steps)


def test_image_that_kept_its_size_is_not_resized() -> None:
    box = PixelBox(left=0, top=0, width=60, height=44)
    paste = Paste(width=60, height=44, used=box, box=box)
    request = resolved(Task.IMG2IMG, {"prompt": "a cat"}).model_copy(update={"paste": paste})
    for recipe in (
        recipe_of_request(request.model_dump_json()),
        recipe_of_infotext(parse_infotext(request_infotext(request, 1))),
    ):
        assert recipe is not None
        assert {"width", "height"}.isdisjoint(recipe.fields)
        assert recipe.needs == ["image"]


@pytest.mark.parametrize(
    ("text", "task", "fields"),
    [
        (
            "cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768, "
            "Model hash: 45dee52b, Clip skip: 2",
            Task.TXT2IMG,
            {"prompt": "cat", "steps": 20, "sampler": "euler_ancestral", "schedule": "linspace",
             "guidance_scale": 7, "seed": 1, "width": 512, "height": 768, "clip_skip": 1},
        ),
        (
            "cat\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1, Size: 512x512, "
            "Denoising strength: 0.4, Hires resize: 1024x1024, Hires upscaler: R-ESRGAN 4x+",
            Task.TXT2IMG,
            {"prompt": "cat", "steps": 20, "sampler": "dpmpp_2m", "schedule": "karras",
             "guidance_scale": 7.5, "seed": 1, "width": 512, "height": 512, "hires_scale": 2.0,
             "hires_strength": 0.4, "hires_upscaler": "R-ESRGAN 4x+"},
        ),
        (
            "Steps: 99999, Sampler: Restart, CFG scale: 1e9, Seed: 99999999999999999999, "
            "Size: 0x0, Denoising strength: nan",
            Task.IMG2IMG,
            {"prompt": ""},
        ),
        (
            "Postprocess upscale by: 4, Postprocess upscaler: Lanczos, Version: v1.10.1",
            Task.UPSCALE,
            {"scale": 4, "upscaler": "lanczos"},
        ),
    ],
)  # fmt: skip
def test_texts_of_automatic1111(text: str, task: Task, fields: dict[str, Any]) -> None:
    recipe = recipe_of_infotext(parse_infotext(text))
    assert recipe is not None
    assert (recipe.task, recipe.fields) == (task, fields)


def test_text_without_parameters_is_no_recipe() -> None:
    assert recipe_of_infotext(parse_infotext("a cat, a dog: and a bird")) is None
    assert recipe_of_request("[]") is None
    assert recipe_of_request('{"task":"txt2img"}') is None
    assert recipe_of_request("[" * 10**6) is None
