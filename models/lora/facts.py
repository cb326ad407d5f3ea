"""Facts in a LoRA's file about its use: trigger words, a preview, the sampler of its training.

The header may have the keys of ModelSpec (Stability AI). LoRAs that make a model faster say nothing
in their files; the published ones are known by their names only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open

from models.checkpoints.keys.adapters import BUNDLED
from models.checkpoints.weights import UNREADABLE

MAX_TRIGGER = 1000  # characters
MAX_PREVIEW = 32 * 1024  # characters of a data URI

_TRIGGER, _THUMBNAIL = "modelspec.trigger_phrase", "modelspec.thumbnail"
_IMAGE = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Recommended:
    """The settings that a LoRA was trained for; `guidance_scale` 1 is none."""

    sampler: str
    schedule: str
    guidance_scale: float
    steps: int


@dataclass(frozen=True)
class LoraFacts:
    """The facts in a file about itself. words: the vectors of each bundled embedding."""

    trigger: str = ""
    preview: str = ""
    words: Mapping[str, int] = field(default_factory=dict)
    recommended: Recommended | None = None


# Published LoRAs by their names, with the settings of their model cards. A number of steps in the
# name takes the place of the one here.
_BY_NAME = (
    (r"hyper-?sd\w*-1step", Recommended("tcd", "lcm", 1.0, 1)),
    (r"hyper-?sd\w*-\d+steps?-cfg", Recommended("ddim", "trailing", 5.0, 8)),
    (r"hyper-?sd", Recommended("ddim", "trailing", 1.0, 8)),
    (r"sdxl-?lightning", Recommended("euler", "trailing", 1.0, 4)),
    (r"\blcm-?lora", Recommended("lcm", "lcm", 1.0, 4)),
    (r"\btcd-?sd\w*(?:-base)?(?:-1\.0)?-lora", Recommended("tcd", "lcm", 1.0, 4)),
)
_STEPS = re.compile(r"(?<![0-9])(\d{1,2})-?steps?\b")


def facts_of(file: Path, name: str) -> LoraFacts:
    """Return what the header of a LoRA that fits says. `name`: of the file."""
    try:
        with safe_open(file, framework="pt") as tensors:
            metadata = tensors.metadata() or {}
            keys = tensors.keys()
            words: dict[str, int] = {}
            for match in filter(None, map(BUNDLED.fullmatch, keys)):
                shape = tensors.get_slice(match[0]).get_shape()
                words[match["word"]] = shape[0] if len(shape) == 2 else 1
    except UNREADABLE:  # it has just been removed
        return LoraFacts()
    preview = metadata.get(_THUMBNAIL, "")
    shown = len(preview) <= MAX_PREVIEW and _IMAGE.fullmatch(preview)
    trigger = " ".join(metadata.get(_TRIGGER, "")[:MAX_TRIGGER].split())
    return LoraFacts(
        trigger="".join(filter(str.isprintable, trigger)),
        preview=preview if shown else "",
        words=words,
        recommended=recommended(name),
    )


def recommended(name: str) -> Recommended | None:
    """Return the settings of a published LoRA of this name; None for others."""
    plain = re.sub(r"[ _-]+", "-", name.lower())
    for pattern, settings in _BY_NAME:
        if re.search(pattern, plain):
            steps = _STEPS.search(plain)
            return Recommended(
                settings.sampler,
                settings.schedule,
                settings.guidance_scale,
                int(steps[1]) if steps and int(steps[1]) else settings.steps,
            )
    return None
