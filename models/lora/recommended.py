"""The settings that a LoRA was trained for, as those that make a model faster want few steps.

No file of a LoRA says them itself. They are in the card beside the file, `<name>.json`:

    {"sampler": "lcm", "schedule": "lcm", "guidance_scale": 1, "steps": 4}

The published LoRAs are known by their names, too. A card may have further keys; the manifest of an
installed LoRA is such a file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from models.checkpoints.errors import CheckpointError
from models.checkpoints.files import read_json
from models.samplers import SAMPLERS, SCHEDULES

log = logging.getLogger(__name__)

CARD_SUFFIX = ".json"
MAX_STEPS = 1000
MAX_GUIDANCE_SCALE = 100


@dataclass(frozen=True)
class Recommended:
    """The settings that a LoRA was trained for; `guidance_scale` 1 is none."""

    sampler: str
    schedule: str
    guidance_scale: float
    steps: int


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

_NAMES = tuple(field.name for field in fields(Recommended))
_VALID: Mapping[str, Callable[[Any], bool]] = {
    "sampler": lambda value: isinstance(value, str) and value in SAMPLERS,
    "schedule": lambda value: isinstance(value, str) and value in SCHEDULES,
    "guidance_scale": lambda value: _is_number(value) and 0 <= value <= MAX_GUIDANCE_SCALE,
    "steps": lambda value: _is_number(value) and value in range(1, MAX_STEPS + 1),
}


def recommended(file: Path, name: str) -> Recommended | None:
    """Return the settings of the card beside `file`, else of a published LoRA of this name."""
    return _of_card(file.with_suffix(CARD_SUFFIX)) or published(name)


def published(name: str) -> Recommended | None:
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


def _of_card(card: Path) -> Recommended | None:
    """Return the settings that a card states; None without valid ones."""
    try:
        stated = read_json(card) if card.exists() else {}
    except CheckpointError as error:
        log.warning("%s", error)
        return None
    if not any(name in stated for name in _NAMES):
        return None
    if wrong := [name for name in _NAMES if not _VALID[name](stated.get(name))]:
        log.warning("%s does not state a valid %s", card, " and ".join(wrong))
        return None
    guidance_scale, steps = float(stated["guidance_scale"]), int(stated["steps"])
    return Recommended(stated["sampler"], stated["schedule"], guidance_scale, steps)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
