"""The recipe of an image as texts of its file: ours, and AUTOMATIC1111's."""

from __future__ import annotations

import json

from PIL.PngImagePlugin import PngInfo

from protocol.recipes.exif_recipe import (
    MAKER_NOTE,
    USER_COMMENT,
    write_maker_note,
    write_user_comment,
)
from protocol.recipes.names import INFOTEXT_KEY, OUR_KEY
from protocol.recipes.provenance import XMP_KEY
from protocol.recipes.request_infotext import request_infotext
from protocol.request.request import GenerationRequest
from worker.output.xmp import xmp_packet


def png_texts(request: GenerationRequest, seed: int) -> PngInfo:
    """Return the XMP packet and the recipe; tEXt where Latin-1 suffices, else iTXt (UTF-8)."""
    info = PngInfo()
    texts = {INFOTEXT_KEY: request_infotext(request, seed), **_parameter_texts(request, seed)}
    for key, text in texts.items():
        info.add_text(key, _printable(text))
    info.add_itxt(XMP_KEY, xmp_packet(request))
    return info


def exif_texts(request: GenerationRequest, seed: int) -> dict[str, bytes]:
    """Return the recipe as the values of Exif tags, by their names."""
    ours = json.dumps(_own_recipe(request, seed), ensure_ascii=False, separators=(",", ":"))
    return {
        USER_COMMENT: write_user_comment(_printable(request_infotext(request, seed))),
        MAKER_NOTE: write_maker_note(_printable(ours)),
    }


def _parameter_texts(request: GenerationRequest, seed: int) -> dict[str, str]:
    """Return the parameters of the image generated from `seed`, one by one and all as JSON."""
    ours = json.dumps(_own_recipe(request, seed))
    if request.upscaling is not None:
        return {"Upscaler": ", ".join(request.upscalers), "Size": _size(request), OUR_KEY: ours}
    texts = {}
    if request.task.takes("prompt"):
        texts = {"Prompt": request.prompt, "Negative prompt": request.negative_prompt}
    texts |= {
        "Seed": str(seed),
        "Steps": str(request.steps),
        "Sampler": request.sampler,
        "Schedule": request.schedule,
        "Guidance scale": f"{request.guidance_scale:g}",
        "Size": _size(request),
        "Model": request.model,
    }
    if request.strength is not None:
        texts["Strength"] = f"{request.strength:g}"
    if request.class_id is not None:
        texts["Class"] = str(request.class_id)
    return texts | {OUR_KEY: ours}


def _own_recipe(request: GenerationRequest, seed: int) -> object:
    """Return the request of this one image: with its own seed, and without previews."""
    if request.upscaling is None:
        request = request.model_copy(update={"seed": seed, "n": 1, "previews": False})
    return request.model_dump(mode="json")


def _size(request: GenerationRequest) -> str:
    return f"{request.width}x{request.height}"


def _printable(text: str) -> str:
    """Remove what the PNG standard forbids: zero bytes, and surrogates, which are not text."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
