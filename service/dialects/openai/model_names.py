"""The names of OpenAI's own image models, which many clients cannot change."""

import re

from protocol.request.model_card import ModelCard
from protocol.request.tasks import Task
from service.dialects.model_names import card_or_default
from service.jobs.model_directory import ModelDirectory

# "default" is what Nextcloud sends when no model is chosen.
_NAMES = re.compile(r"dall-e-[0-9]|(chat)?gpt-image(-[0-9a-z.-]{1,60})?|default", re.IGNORECASE)


def stands_for_default(name: str | None) -> bool:
    """Return True for a name that means the default model, unless a model has that name."""
    return name is not None and _NAMES.fullmatch(name) is not None


async def card_for(models: ModelDirectory, task: Task, name: str | None) -> ModelCard:
    """Return the card of the model for a request. Raises as `ModelDirectory.card`."""
    return await card_or_default(models, task, name, stands_for_default(name))
