"""SD-Turbo and SDXL-Turbo, which generate in one step and without guidance.

Their networks are those of Stable Diffusion 2.1 and SDXL: only a name tells. Fine-tunes of them are
made for other steps and are not meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAMES = re.compile(r"sd[-_]?(?:xl)?[-_]turbo(?:[-_.](?:1\.0|1-0|fp16|fp32))*", re.IGNORECASE)
_LATENTS = 64  # side of the images that both were trained on

# Of the published model cards and scheduler configurations (Sauer et al. 2023).
_FIELDS = {
    "default_steps": 1,
    "default_guidance_scale": 1.0,
    "default_schedule": "trailing",
}


def turbo_fields(
    name: str, index: Mapping[str, Any], *, side: int, factor: int, sdxl: bool
) -> dict[str, Any]:
    """Return the card's fields of SD-Turbo or SDXL-Turbo; none for other models.

    name: of the model. index: its model_index.json, which may hold the name it was saved from.
    side: of the model's own default size, which is too large for a single file of SDXL-Turbo.
    factor: the pixels for each latent.
    """
    saved_from = str(index.get("_name_or_path", "")).rsplit("/", 1)[-1]
    if not any(_NAMES.fullmatch(one) for one in (name, saved_from)):
        return {}
    side = min(side, _LATENTS * factor)
    sampler = "euler_ancestral" if sdxl else "euler"
    return _FIELDS | {"default_sampler": sampler, "default_width": side, "default_height": side}
