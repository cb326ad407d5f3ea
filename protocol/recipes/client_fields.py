"""The fields that a client sends to get a request again: `resolve` the other way round."""

import math
from collections.abc import Mapping
from typing import Any

from protocol.request.generation_params import GenerationParams
from protocol.request.inpainting import InpaintArea, MaskSource
from protocol.request.request import GenerationRequest
from protocol.request.samplers import WITH_ETA
from protocol.request.tasks import FIELDS_OF, TASK_FIELDS

Fields = dict[str, Any]

# Of these, a request has what its client sent, and no other image depends on them.
_NOT_OF_THE_IMAGE = frozenset({"priority", "deadline_s", "previews", "n"})
_OF_UPSCALERS = frozenset({"model", "seed", "output_format", "quality"})
_EXCEPT = _NOT_OF_THE_IMAGE | {"controls", "metadata"}


def client_fields(request: GenerationRequest) -> Fields:
    """Return the JSON fields without files; those of the model's card are all there.

    Fields with their general default are left out. One image is asked for.
    """
    if request.upscaling is not None:
        return _common(request, _OF_UPSCALERS) | _upscaling(request)
    fields = _common(request, frozenset(GenerationParams.model_fields) - _EXCEPT)
    if request.task.requires_prompt:
        fields = {"prompt": request.prompt, **fields}
    if request.sampler != WITH_ETA:
        fields.pop("eta", None)
    if keeps_size_of_image(request) or request.outpainting is not None:
        fields = {name: fields[name] for name in fields if name not in ("width", "height")}
    fields |= _controls(request) | _second_pass(request) | _tiles(request)
    return fields | _borders(request)


def needed_files(request: GenerationRequest) -> list[str]:
    """Return the names of the file fields that a client must add."""
    names = [name for name in ("image", "mask") if request.task.takes(name)]
    if request.mask_source is MaskSource.ALPHA:
        names.remove("mask")
    if request.depth_map_key is not None:
        names.append("depth_map")
    return [*names, *(f"controls.{i}.image" for i, _ in enumerate(request.controls))]


def hires_scale(size: tuple[int, int], larger: tuple[int, int]) -> float:
    """Return a scale that makes `larger` of `size`, where sides are rounded to some multiple.

    It misses both sides by the same number of pixels, which is less than any other scale does. A
    scale is above 1, even where rounding has undone it.
    """
    return max(sum(larger) / sum(size), math.nextafter(1, 2))


def _common(request: GenerationRequest, names: frozenset[str]) -> Fields:
    """Return the fields that a request and its parameters have under the same name."""
    unused = TASK_FIELDS - FIELDS_OF[request.task]
    sent: Mapping[str, Any] = request.model_dump(mode="json")
    return {
        name: sent[name]
        for name, field in GenerationParams.model_fields.items()
        if name in names - unused
        and sent.get(name) is not None
        and getattr(request, name) != field.default
    }


def keeps_size_of_image(request: GenerationRequest) -> bool:
    """Return True if the image was padded, because its size is no multiple of the model's."""
    paste = request.paste
    if paste is None or request.inpaint_area is InpaintArea.MASKED:
        return False
    return (paste.width, paste.height) != (request.width, request.height)


def _controls(request: GenerationRequest) -> Fields:
    used = [control.model_dump(mode="json", exclude={"image_key"}) for control in request.controls]
    return {"controls": used} if used else {}


def _second_pass(request: GenerationRequest) -> Fields:
    if (refinement := request.refinement) is not None:
        return {"refiner": refinement.model, "refiner_start": refinement.start}
    if (second := request.enlargement) is None:
        return {}
    scale = hires_scale((request.width, request.height), (second.width, second.height))
    upscaler = {} if second.upscaler is None else {"hires_upscaler": second.upscaler}
    steps = {"hires_steps": second.steps, "hires_strength": second.strength}
    return {"hires_scale": scale, **steps, **upscaler}


def _tiles(request: GenerationRequest) -> Fields:
    if (tiles := request.tiles) is None:
        return {}
    sizes = {"tile_size": tiles.size, "tile_overlap": tiles.overlap}
    return {**sizes, "upscaler": tiles.upscaler}


def _borders(request: GenerationRequest) -> Fields:
    if (asked := request.outpainting) is None:
        return {}
    image, result = asked.image.corners, asked.result.corners
    sides = {
        "left": image[0] - result[0],
        "top": image[1] - result[1],
        "right": result[2] - image[2],
        "bottom": result[3] - image[3],
    }
    return {side: pixels for side, pixels in sides.items() if pixels} | {"edge_blend": asked.blend}


def _upscaling(request: GenerationRequest) -> Fields:
    assert request.upscaling is not None
    upscaling = request.upscaling
    fields: Fields = {"upscaler": upscaling.upscaler}
    if upscaling.upscaler_2 is not None:
        fields |= {"upscaler_2": upscaling.upscaler_2, "upscaler_blend": upscaling.blend}
    return fields if upscaling.scale is None else fields | {"scale": upscaling.scale}
