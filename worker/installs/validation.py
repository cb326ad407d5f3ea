"""Validation of a model before it is installed by request: it must load, and be served here."""

from __future__ import annotations

from pathlib import Path

from redis import Redis

from models.checkpoints.errors import CheckpointError
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence
from protocol.request.model_card import canonical_name
from worker.model_info.model_description import describe_folder
from worker.model_info.validation import CheckpointValidator
from worker.model_manager.served_models import ServedModels


def validate_install(converted: Path, name: str, served: ServedModels, redis: Redis) -> None:
    """Validate a converted folder or file that is to be installed as `name`.

    Raises CheckpointError, ValueError and QueueUnavailable.
    """
    CheckpointValidator(name, served.settings)(converted)
    if not (converted / "model_index.json").is_file():
        return
    if name in served.names or _is_served(name, redis):
        raise CheckpointError(f"a model {name!r} is served already: choose another name")
    describe_folder(converted, name, served.settings, served.device)


def _is_served(name: str, redis: Redis) -> bool:
    """Return True for the name or alias of a model of any worker."""
    named = {model.name for worker in Presence(redis).workers() for model in worker.models}
    cards = {name: card for name, card in ModelRegistry(redis).cards().items() if name in named}
    return canonical_name(name, cards) is not None
