"""Facts about the use of a LoRA: trigger words, a preview, the sampler of its training.

The header of its file may have the keys of ModelSpec (Stability AI).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open

from models.checkpoints.keys.adapters import BUNDLED
from models.checkpoints.weights import UNREADABLE
from models.lora.recommended import Recommended, recommended

MAX_TRIGGER = 1000  # characters
MAX_PREVIEW = 32 * 1024  # characters of a data URI

_TRIGGER, _THUMBNAIL = "modelspec.trigger_phrase", "modelspec.thumbnail"
_IMAGE = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class LoraFacts:
    """The facts about a LoRA. words: the vectors of each bundled embedding."""

    trigger: str = ""
    preview: str = ""
    words: Mapping[str, int] = field(default_factory=dict)
    recommended: Recommended | None = None


def facts_of(file: Path, name: str) -> LoraFacts:
    """Return what the header of a LoRA that fits and its card say. `name`: of the file."""
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
        recommended=recommended(file, name),
    )
