"""The `info` and `parameters` of an answer with images."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from protocol.recipes.a1111_names import sampler_label
from protocol.recipes.infotext import write_infotext
from protocol.recipes.request_infotext import infotext_of, program_version
from protocol.request.request import GenerationRequest
from service.dialects.automatic1111.options import Options
from service.dialects.automatic1111.requests import Generation, ImageToImage

TIMESTAMP = "%Y%m%d%H%M%S"
# Parameters of an infotext that have keys of their own in `info`.
NOT_EXTRA = frozenset(
    {
        *("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Model hash", "Clip skip"),
        *("Denoising strength", "Version"),
    }
)
MAX_ECHOED = 1000  # characters of a text; longer ones are files
# Fields of a request that hold images, which are sent back only where they are asked for.
IMAGES = ("init_images", "mask", "latent_mask")


def info_of(
    parameters: Mapping[str, Any], images: Sequence[tuple[GenerationRequest, int]]
) -> dict[str, Any]:
    """Return the `info` of images, each with its request and its seed.

    `parameters` are those of the answer.
    """
    infotexts = [infotext_of(request, seed) for request, seed in images]
    request, seeds = images[0][0], [seed for _, seed in images]
    second = request.enlargement
    prompt, negative_prompt = parameters["prompt"], parameters["negative_prompt"]
    return {
        "prompt": prompt,
        "all_prompts": [prompt] * len(seeds),
        "negative_prompt": negative_prompt,
        "all_negative_prompts": [negative_prompt] * len(seeds),
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": parameters["subseed"],
        "all_subseeds": [parameters["subseed"]] * len(seeds),
        "subseed_strength": parameters["subseed_strength"],
        "width": request.width,
        "height": request.height,
        "sampler_name": sampler_label(request.sampler),
        "cfg_scale": request.guidance_scale,
        "steps": request.steps,
        "batch_size": parameters["batch_size"],
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": request.model,
        "sd_model_hash": request.model_hash or "",
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": parameters["seed_resize_from_w"],
        "seed_resize_from_h": parameters["seed_resize_from_h"],
        "denoising_strength": second.strength if second else request.strength,
        "extra_generation_params": {
            key: text for key, text in infotexts[0].parameters.items() if key not in NOT_EXTRA
        },
        "index_of_first_image": 0,
        "infotexts": [*map(write_infotext, infotexts)],
        "styles": [],
        "job_timestamp": time.strftime(TIMESTAMP),
        "clip_skip": request.clip_skip + 1,
        "is_using_inpainting_conditioning": False,
        "version": program_version(),
    }


def info_json(info: Mapping[str, Any]) -> bytes:
    """Return the `info` of an answer as JSON: a string that holds JSON."""
    return json.dumps(json.dumps(info, ensure_ascii=False), ensure_ascii=False).encode()


def parameters_of(body: Generation, request: GenerationRequest) -> dict[str, Any]:
    """Return the request as it was understood.

    It has no fields that this API does not know, which may be secret. Images are null, unless they
    are asked for.
    """
    given = _without_files(body.model_dump(mode="json", exclude_unset=True)) | {
        "prompt": body.prompt or request.prompt,
        "negative_prompt": body.negative_prompt or request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "cfg_scale": request.guidance_scale,
        "sampler_name": sampler_label(request.sampler),
        "batch_size": _batch_size(body),
        "override_settings": {
            name: value
            for name, value in body.override_settings.items()
            if name in Options.model_fields
        },
    }
    # Text that is no Unicode is replaced: what no schema checks may hold half of a character.
    text = json.dumps(given, ensure_ascii=False).encode(errors="replace")
    parameters = _defaults(type(body)) | json.loads(text)
    images = {name: getattr(body, name) for name in IMAGES if name in parameters}
    keeps = isinstance(body, ImageToImage) and body.include_init_images
    return parameters | (images if keeps else dict.fromkeys(images))


def _batch_size(body: Generation) -> int:
    """Return the number of images of an iteration: that of the initial images, if more than one."""
    images = len(body.init_images) if isinstance(body, ImageToImage) else 1
    return images if images > 1 else body.batch_size


@cache
def _defaults(kind: type[Generation]) -> dict[str, Any]:
    return kind().model_dump(mode="json")


def image_texts(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield the images in the parameters of an answer."""
    for name in IMAGES:
        match parameters.get(name):
            case str() as image:
                yield image
            case list() as images:
                yield from images


def _without_files(value: Any) -> Any:
    """Return a JSON value with null for long texts."""
    match value:
        case dict():
            return {key: _without_files(part) for key, part in value.items()}
        case list():
            return [_without_files(part) for part in value]
        case str() if len(value) > MAX_ECHOED:
            return None
        case _:
            return value
