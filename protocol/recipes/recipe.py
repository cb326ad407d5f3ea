"""Recipes read back: the task and the fields that generate an image again."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from protocol.recipes import names
from protocol.recipes.a1111_names import AUTOMATIC, our_sampler
from protocol.recipes.client_fields import Fields, client_fields, hires_scale, needed_files
from protocol.recipes.infotext import Infotext
from protocol.request.generation_params import GenerationParams
from protocol.request.inpainting import InpaintArea, MaskSource
from protocol.request.request import GenerationRequest
from protocol.request.samplers import WITH_ETA
from protocol.request.tasks import FIELDS_OF, TASK_FIELDS, Task

_MASK_MARKS = ("Mask blur", "Mask mode", "Inpaint area", "Masked area padding", "Masked content")
_MASKED_CONTENT = {label: content.value for content, label in names.MASKED_CONTENT.items()}
_MAX_CONTROLS = 4


@dataclass(frozen=True)
class Recipe:
    """The task of an image, its fields as a client sends them, and the files that it must add."""

    task: Task
    fields: Fields
    needs: list[str]


def recipe_of_request(text: str) -> Recipe | None:
    """Return the recipe in a request as JSON; None if it is none that this version reads."""
    try:
        request = GenerationRequest.model_validate_json(text)
    except ValidationError:
        return None
    return Recipe(request.task, client_fields(request), needed_files(request))


def recipe_of_infotext(infotext: Infotext) -> Recipe | None:
    """Return the recipe in an infotext of AUTOMATIC1111 or ours; None if it has no parameters.

    Values that no request can have are left out.
    """
    if not infotext.parameters:
        return None
    parameters = dict(infotext.parameters)
    task = _task(parameters)
    if task is Task.UPSCALE and "Postprocess upscaler" in parameters:
        return Recipe(task, _valid(_upscaling(parameters)), ["image"])
    fields = {
        "prompt": infotext.prompt,
        "negative_prompt": infotext.negative_prompt,
        **_sampling(parameters),
        **_sizes(parameters),
        **_passes(parameters, task),
        **_mask(parameters),
        **_own(parameters),
    }
    taken = {name: value for name, value in fields.items() if _is_taken(name, task)}
    valid = _valid(taken)
    return Recipe(task, valid, _needs(task, valid))


def _task(parameters: Fields) -> Task:
    if parameters.get(names.TASK) in list(Task):
        return Task(parameters[names.TASK])
    if "Steps" not in parameters and "Postprocess upscaler" in parameters:
        return Task.UPSCALE
    if any(key in parameters for key in _MASK_MARKS):
        return Task.INPAINT
    if "Denoising strength" in parameters and not _has_hires_fix(parameters):
        return Task.IMG2IMG
    return Task.TXT2IMG


def _has_hires_fix(parameters: Fields) -> bool:
    return "Hires upscale" in parameters or "Hires resize" in parameters


def _sampling(parameters: Fields) -> Fields:
    label = parameters.get("Sampler", "")
    sampler, schedule = our_sampler(label, parameters.get("Schedule type", AUTOMATIC))
    fields: Fields = {
        "steps": _number(parameters, "Steps"),
        "sampler": sampler,
        "schedule": parameters.get(names.SCHEDULE, schedule),
        "guidance_scale": _number(parameters, "CFG scale"),
        "seed": _number(parameters, "Seed"),
        "model": parameters.get("Model"),
    }
    if sampler == WITH_ETA:
        fields["eta"] = _number(parameters, "Eta DDIM")
    skip = _number(parameters, "Clip skip")
    return fields | ({"clip_skip": skip - 1} if isinstance(skip, int) else {})


def _sizes(parameters: Fields) -> Fields:
    size = _size(parameters.get("Size", ""))
    if size is None or parameters.get(names.PADDED) == str(True):
        return {}
    return {"width": size[0], "height": size[1]}


def _size(text: str) -> tuple[int, int] | None:
    width, _, height = text.partition("x")
    sides = names.number(width), names.number(height)
    match sides:
        case (int(across), int(down)) if across > 0 and down > 0:
            return across, down
        case _:
            return None


def _passes(parameters: Fields, task: Task) -> Fields:
    """Return the strength of the only pass, or the fields of the second one."""
    strength = _number(parameters, "Denoising strength")
    fields: Fields = {"refiner": parameters.get("Refiner")}
    if "Refiner" in parameters:
        fields["refiner_start"] = _number(parameters, "Refiner switch at")
    if not _has_hires_fix(parameters):
        return fields | {"strength": strength}
    size, larger = (_size(parameters.get(key, "")) for key in ("Size", "Hires resize"))
    scale = _number(parameters, "Hires upscale")
    fields["hires_scale"] = hires_scale(size, larger) if size and larger else scale
    fields["hires_steps"] = _number(parameters, "Hires steps") or None
    fields["hires_strength"] = strength
    if "Hires upscaler" in parameters:
        fields["hires_upscaler"] = names.our_hires_upscaler(parameters["Hires upscaler"])
    return fields


def _mask(parameters: Fields) -> Fields:
    fields: Fields = {"mask_blur": _number(parameters, "Mask blur") or None}
    if parameters.get("Mask mode") == names.MASK_INVERTED:
        fields["mask_invert"] = True
    if parameters.get("Inpaint area") == names.MASKED_ONLY:
        fields["inpaint_area"] = InpaintArea.MASKED.value
        fields["mask_padding"] = _number(parameters, "Masked area padding")
    return fields | {"masked_content": _MASKED_CONTENT.get(parameters.get("Masked content", ""))}


def _own(parameters: Fields) -> Fields:
    fields: Fields = {
        field: _value(parameters[key])
        for key, field in names.OWN_FIELDS.items()
        if key in parameters
    }
    if names.LORAS in parameters:
        fields["loras"] = names.read_loras(parameters[names.LORAS])
    if names.QUALITY in parameters:
        fields["quality"] = _number(parameters, names.QUALITY)
    if names.TILE_SIZE in parameters:
        fields["tile_size"] = _number(parameters, names.TILE_SIZE)
        fields["tile_overlap"] = _number(parameters, names.TILE_OVERLAP)
        fields["upscaler"] = parameters.get(names.UPSCALER)
    keys = (f"ControlNet {i}" for i in range(_MAX_CONTROLS))
    controls = [names.read_control(parameters[key]) for key in keys if key in parameters]
    return fields | ({"controls": controls} if controls else {})


def _upscaling(parameters: Fields) -> Fields:
    fields: Fields = {"scale": _number(parameters, "Postprocess upscale by")}
    fields["upscaler"] = names.our_upscaler(parameters["Postprocess upscaler"])
    if "Postprocess upscaler 2" in parameters:
        fields["upscaler_2"] = names.our_upscaler(parameters["Postprocess upscaler 2"])
        fields["upscaler_blend"] = _number(parameters, names.BLEND)
    return fields


def _number(parameters: Fields, key: str) -> Any:
    return names.number(parameters[key]) if key in parameters else None


def _value(text: str) -> Any:
    return text == str(True) if text in (str(True), str(False)) else names.number(text)


def _is_taken(field: str, task: Task) -> bool:
    return field not in TASK_FIELDS or field in FIELDS_OF[task]


def _valid(fields: Fields) -> Fields:
    """Return the fields that are within the bounds of every model."""
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    if fields.get("prompt") == "":
        given["prompt"] = ""  # a prompt may be empty, but not missing
    try:
        GenerationParams.model_validate(given)
    except ValidationError as error:
        wrong = {str(details["loc"][0]) for details in error.errors(include_url=False)}
        return {name: value for name, value in given.items() if name not in wrong}
    return given


def _needs(task: Task, fields: Fields) -> list[str]:
    needed: Iterable[str] = (name for name in ("image", "mask") if task.takes(name))
    if fields.get("mask_source") == MaskSource.ALPHA.value:
        needed = ["image"]
    return [*needed, *(f"controls.{i}.image" for i, _ in enumerate(fields.get("controls", ())))]
