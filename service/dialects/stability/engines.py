"""Engines of version 1: our models and upscalers, and Stability's names of its own."""

import re

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard
from protocol.request.tasks import Task
from protocol.request.upscaling import FILTERS
from service.dialects.model_names import card_or_default
from service.jobs.model_directory import ModelDirectory

# Names of Stability's models, which stand for the default one.
_MODELS = re.compile(
    r"stable-(diffusion|inpainting|image)(-[0-9a-z.-]{1,60})?|sd3(\.[0-9])?(-[0-9a-z.-]{1,60})?",
    re.IGNORECASE,
)
ESRGAN = "esrgan-v1-x2plus"  # Stability's name of an upscaler


async def engine_card(models: ModelDirectory, task: Task, name: str | None) -> ModelCard:
    """Return the card of a model by our name, or of the default by one of Stability's.

    Raises as `ModelDirectory.card`.
    """
    stands_for_default = name is not None and _MODELS.fullmatch(name) is not None
    return await card_or_default(models, task, name, stands_for_default)


async def upscaler_named(models: ModelDirectory, name: str | None) -> str | None:
    """Return our name of an upscaler; None: `name` is that of a model, if of anything.

    `ESRGAN`, and no name, is the first network that the operator has added. Raises
    `InvalidRequest` if there is none.
    """
    networks = await networks_of(models)
    if name in (*FILTERS, *networks):
        return name
    if name not in (None, ESRGAN):
        return None
    if not networks:
        bound = f"{' or '.join(FILTERS)}: no network for upscaling has been added here"
        raise InvalidRequest("model", name, bound, "unknown-model")
    return networks[0]


async def networks_of(models: ModelDirectory) -> list[str]:
    """Return the names of all networks for upscaling."""
    cards = (await models.cards()).values()
    return list(dict.fromkeys(one.name for card in cards for one in card.upscalers))
