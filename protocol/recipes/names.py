"""Names and values of an infotext's parameters, as writer and reader share them."""

import math
import re
from collections.abc import Iterable
from typing import Any

from protocol.request.bounds import exact
from protocol.request.inpainting import MaskedContent
from protocol.request.prompts import read_mention, write_mention
from protocol.request.request import ControlUse, LoraUse
from protocol.request.samplers import DEFAULT_LATENT_MODE, LATENT_MODES
from protocol.request.tasks import Task

INFOTEXT_KEY, OUR_KEY = "parameters", "darkroom"  # of the texts in a PNG

# AUTOMATIC1111's values.
MASK_INVERTED, MASKED_ONLY = "Inpaint not masked", "Only masked"
MASKED_CONTENT = {
    MaskedContent.FILL: "fill",
    MaskedContent.ORIGINAL: "original",
    MaskedContent.NOISE: "latent noise",
    MaskedContent.NOTHING: "latent nothing",
}
FILTER_LABELS = {"lanczos": "Lanczos", "nearest": "Nearest"}
TASKS_OF_A1111 = frozenset({Task.TXT2IMG, Task.IMG2IMG, Task.INPAINT})

# Names of ours, for what AUTOMATIC1111 does not have. "Noise multiplier" and "Image CFG scale" are
# its own.
TASK, SCHEDULE, LORAS, QUALITY = "Task", "Schedule", "Loras", "Quality"
PADDED = "Padded"  # the image kept its own size, in a larger one
TILE_SIZE, TILE_OVERLAP, UPSCALER = "Tile size", "Tile overlap", "Upscaler"
BLEND = "Postprocess upscaler blend"
OWN_FIELDS = {
    "Noise multiplier": "noise_multiplier",
    "Prompt syntax": "prompt_syntax",
    "Image CFG scale": "image_guidance_scale",
    "Guidance rescale": "guidance_rescale",
    "Guidance start": "guidance_start",
    "Guidance end": "guidance_end",
    "Resize mode": "resize_mode",
    "Mask grow": "mask_grow",
    "Mask source": "mask_source",
    "Mask greys": "mask_mode",
    "Noise level": "noise_level",
    "Class": "class_id",
    "Decoder": "decoder",
    "Aesthetic score": "aesthetic_score",
    "Sound": "audio_format",
    "Stereo": "audio_stereo",
}
# Of a ControlNet, inside the value of "ControlNet 0", as sd-webui-controlnet writes them.
CONTROL = {"Model": "model", "Weight": "weight", "Guidance Start": "start", "Guidance End": "end"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?")
_CONTROL_HASH = re.compile(r" \[[0-9a-f]{8}\]$")


def hires_upscaler_label(upscaler: str | None) -> str:
    """Return AUTOMATIC1111's name of what scales up for hires fix; None: the latents are."""
    if upscaler is None:
        return DEFAULT_LATENT_MODE.label
    if upscaler in LATENT_MODES:
        return LATENT_MODES[upscaler].label
    return FILTER_LABELS.get(upscaler, upscaler)


def our_hires_upscaler(label: str) -> str | None:
    """Return our name of what scales up for hires fix; None for our default."""
    if label == DEFAULT_LATENT_MODE.label:
        return None
    ours = {mode.label: name for name, mode in LATENT_MODES.items()}
    return ours.get(label) or our_upscaler(label)


def our_upscaler(label: str) -> str:
    """Return our name of an upscaler."""
    ours = {label: name for name, label in FILTER_LABELS.items()}
    return ours.get(label, label)


def write_value(value: Any) -> str:
    """Return a JSON value as text."""
    if isinstance(value, bool):
        return str(value)
    return exact(value) if isinstance(value, float) else str(value)


def write_loras(loras: Iterable[LoraUse]) -> str:
    """Return LoRAs as in a prompt, each on a line without its brackets."""
    return "\n".join(map(write_mention, loras))


def read_loras(text: str) -> list[dict[str, Any]]:
    """Return what `write_loras` wrote; a weight that is no number is text."""
    mentions = map(read_mention, text.split("\n"))
    return [
        {"name": mention.name, "weight": mention.problem}
        if mention.problem
        # The steps do not matter: they were written as shares of all.
        else mention.use(steps=1).model_dump(mode="json")
        for mention in mentions
    ]


def write_control(control: ControlUse) -> str:
    """Return the parameters of a ControlNet."""
    values = control.model_dump(mode="json")
    given = {key: write_value(values[field]) for key, field in CONTROL.items()}
    return ", ".join(f"{key}: {text}" for key, text in {"Module": "None", **given}.items())


def read_control(text: str) -> dict[str, Any]:
    """Return the fields of a ControlNet, as far as the text has them."""
    pairs = [part.partition(":") for part in text.split(",")]
    given = {key.strip(): value.strip() for key, _, value in pairs}
    values = {CONTROL[key]: value for key, value in given.items() if key in CONTROL}
    model = _CONTROL_HASH.sub("", values.pop("model", ""))
    return {"model": model, **{field: number(value) for field, value in values.items()}}


def number(text: str) -> int | float | str:
    """Return the number in `text`, or the text itself if it is none or not finite."""
    if _INTEGER.fullmatch(text):
        return int(text)
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else text
