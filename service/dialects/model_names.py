"""The model for a request whose client knows the names of another system's models only."""

from protocol.request.model_card import ModelCard
from protocol.request.tasks import Task
from service.jobs.model_directory import ModelDirectory


async def card_or_default(
    models: ModelDirectory, task: Task, name: str | None, stands_for_default: bool
) -> ModelCard:
    """Return the card of the model for a request. Raises as `ModelDirectory.card`.

    `stands_for_default`: the name means the default model, unless a model has that name.
    """
    if stands_for_default:
        card = await models.card(task, None)
        if not models.has(name):
            return card
    return await models.card(task, name)
