"""The models of a worker, to which those are added that were installed by request."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import torch

from worker.model_info.extra_networks import ModelCards
from worker.model_info.model_description import ModelDescription, describe_requested
from worker.model_manager.eviction_policy import ModelEntry
from worker.model_manager.model_manager import ModelManager
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)


@dataclass
class ServedModels:
    """The descriptions, the manager and the cards of a worker's models.

    The model store tells which models were installed by request, by this worker or by another with
    the same store. `names` are all that are known, with aliases.
    """

    settings: WorkerSettings
    device: torch.device
    descriptions: dict[str, ModelDescription]
    names: set[str]
    manager: ModelManager
    cards: ModelCards
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> None:
        """Read the model store again: take new models, and list the extra networks that fit each.

        To be called every `worker.model_info.extra_networks.CHECK_EVERY_S`, and after an install.
        """
        with self._lock:
            found = describe_requested(self.settings, self.device, self.names)
            self.names |= found.names
            self.descriptions |= found.descriptions
            for name, reason in found.broken.items():
                self.manager.add(name, reason)
            for name, description in found.descriptions.items():
                logger.info("model added", extra={"model": name})
                self.manager.add(name, entry_of(description))
            self.cards.add(list(found.descriptions.values()))
            self.cards.refresh()


def entry_of(description: ModelDescription) -> ModelEntry:
    """Return the size and the eviction rules of a model."""
    config = description.config
    return ModelEntry(
        description.size,
        resident=config.resident is True,
        needs=() if config.refiner is None else (config.refiner,),
        idle_unload_s=config.idle_unload_s,
    )
