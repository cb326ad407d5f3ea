"""The infotext of an image that Darkroom generates, in AUTOMATIC1111's names and order.

Parameters that AUTOMATIC1111 does not have follow under names of ours, wherever they are not at
their defaults, so that the text alone is enough to generate the image again. It ignores them.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from protocol.recipes import names
from protocol.recipes.a1111_names import our_schedule, sampler_label, schedule_label
from protocol.recipes.client_fields import hires_scale, keeps_size_of_image
from protocol.recipes.infotext import Infotext, write_infotext
from protocol.request.bounds import exact
from protocol.request.generation_params import GenerationParams
from protocol.request.inpainting import DEFAULT_MASK_PADDING, InpaintArea
from protocol.request.object_keys import OutputFormat
from protocol.request.prompts import parse_prompt, write_mention
from protocol.request.request import GenerationRequest
from protocol.request.samplers import WITH_ETA
from protocol.request.tasks import Task

Parameters = dict[str, str]
OWN_FIELDS = set(names.OWN_FIELDS.values())


def request_infotext(request: GenerationRequest, seed: int) -> str:
    """Return the infotext of the image of `request` that was generated from `seed`, as text."""
    return write_infotext(infotext_of(request, seed))


def infotext_of(request: GenerationRequest, seed: int) -> Infotext:
    """Return the infotext of the image of `request` that was generated from `seed`."""
    if request.upscaling is not None:
        return Infotext(parameters=_upscaling(request) | _version())
    prompt, loras = _prompt(request)
    parameters = {
        "Steps": str(request.steps),
        "Sampler": sampler_label(request.sampler),
        "Schedule type": schedule_label(request.sampler, request.schedule),
        "CFG scale": exact(request.guidance_scale),
        "Seed": str(seed),
        "Size": f"{request.width}x{request.height}",
        **({"Model hash": request.model_hash} if request.model_hash else {}),
        "Model": request.model,
        **_strength(request),
        **({"Clip skip": str(request.clip_skip + 1)} if request.clip_skip else {}),
        **_hires_fix(request),
        **_refiner(request),
        **_mask(request),
        **_eta(request),
        **_controls(request),
        **loras,
        **_own(request),
        **_version(),
    }
    return Infotext(prompt, request.negative_prompt, parameters)


@cache
def program_version() -> str:
    """Return the name and version of this program."""
    try:
        return f"Darkroom {version('darkroom')}"
    except PackageNotFoundError:  # run from a folder, without an installation
        return "Darkroom"


def _version() -> Parameters:
    return {"Version": program_version()}


def _prompt(request: GenerationRequest) -> tuple[str, Parameters]:
    """Return the prompt with its LoRAs as tags; where tags would be read otherwise, a parameter."""
    if not request.loras:
        return request.prompt, {}
    tags = [f"<lora:{write_mention(lora)}>" for lora in request.loras]
    prompt = request.prompt + "".join(tags)
    read = parse_prompt(prompt, request.prompt_syntax)
    before = parse_prompt(request.prompt, request.prompt_syntax)
    uses = tuple(mention.use(request.steps) for mention in read.loras)
    if (read.sections, uses) == (before.sections, request.loras):
        return prompt, {}
    return request.prompt, {names.LORAS: names.write_loras(request.loras)}


def _strength(request: GenerationRequest) -> Parameters:
    second = request.enlargement
    strength = request.strength if second is None else second.strength
    return {} if strength is None else {"Denoising strength": exact(strength)}


def _hires_fix(request: GenerationRequest) -> Parameters:
    if (second := request.enlargement) is None:
        return {}
    scale = hires_scale((request.width, request.height), (second.width, second.height))
    return {
        "Hires upscale": exact(scale),
        "Hires steps": str(second.steps),
        "Hires upscaler": names.hires_upscaler_label(second.upscaler),
    }


def _refiner(request: GenerationRequest) -> Parameters:
    if (refinement := request.refinement) is None:
        return {}
    return {"Refiner": refinement.model, "Refiner switch at": exact(refinement.start)}


def _mask(request: GenerationRequest) -> Parameters:
    """Return the parameters of inpainting; the first is there even if it is 0, as their mark."""
    if request.task is not Task.INPAINT:
        return {}
    parameters = {"Mask blur": str(request.mask_blur or 0)}
    if request.mask_invert:
        parameters["Mask mode"] = names.MASK_INVERTED
    if request.inpaint_area is InpaintArea.MASKED:
        padding = request.mask_padding
        parameters["Inpaint area"] = names.MASKED_ONLY
        parameters["Masked area padding"] = str(
            DEFAULT_MASK_PADDING if padding is None else padding
        )
    if request.masked_content is not None:
        parameters["Masked content"] = names.MASKED_CONTENT[request.masked_content]
    return parameters


def _eta(request: GenerationRequest) -> Parameters:
    return {"Eta DDIM": exact(request.eta)} if request.sampler == WITH_ETA else {}


def _controls(request: GenerationRequest) -> Parameters:
    return {
        f"ControlNet {i}": names.write_control(control)
        for i, control in enumerate(request.controls)
    }


def _own(request: GenerationRequest) -> Parameters:
    """Return the parameters that AUTOMATIC1111 lacks, where they are not at their defaults."""
    parameters: Parameters = {}
    if request.task.value not in names.TASKS_OF_A1111:
        parameters[names.TASK] = request.task.value
    label = schedule_label(request.sampler, request.schedule)
    if our_schedule(request.sampler, label) != request.schedule:
        parameters[names.SCHEDULE] = request.schedule
    values = request.model_dump(mode="json", include=OWN_FIELDS)
    for key, field in names.OWN_FIELDS.items():
        if values.get(field) not in (None, GenerationParams.model_fields[field].default):
            parameters[key] = names.write_value(values[field])
    if request.output_format is not OutputFormat.PNG:
        parameters[names.QUALITY] = str(request.quality)
    if keeps_size_of_image(request):
        parameters[names.PADDED] = str(True)
    return parameters | _tiles(request)


def _tiles(request: GenerationRequest) -> Parameters:
    if (tiles := request.tiles) is None:
        return {}
    return {
        names.TILE_SIZE: str(tiles.size),
        names.TILE_OVERLAP: str(tiles.overlap),
        names.UPSCALER: tiles.upscaler,
    }


def _upscaling(request: GenerationRequest) -> Parameters:
    """Return the parameters of AUTOMATIC1111's tab "Extras"."""
    assert request.upscaling is not None
    upscaling: Mapping[str, object] = {
        "Postprocess upscale by": request.upscaling.scale and exact(request.upscaling.scale),
        "Postprocess upscaler": request.upscaling.upscaler,
        "Postprocess upscaler 2": request.upscaling.upscaler_2,
        names.BLEND: request.upscaling.upscaler_2 and exact(request.upscaling.blend),
    }
    return {key: str(value) for key, value in upscaling.items() if value is not None}
