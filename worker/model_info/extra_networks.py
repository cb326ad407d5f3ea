"""Lists on each model's card the extra networks that fit it, and adds the hash of its file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from models.conditioners.clip import embedding_names
from models.loading.controlnets import ControlNets
from models.loading.embeddings import Embeddings
from models.loading.upscalers import Upscalers
from models.lora.facts import LoraFacts
from models.lora.merging import layers_of
from models.lora.registry import LoraRegistry
from protocol.registry.model_registry import PublishedModel
from protocol.request.model_card import LoraInfo, ModelCard, UpscalerInfo
from worker.model_info.checkpoint_hashes import CheckpointHashes
from worker.model_info.model_description import (
    EMBEDDINGS,
    ModelDescription,
    tokenizer_json,
)

logger = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0  # how often the folders are read
MAX_MISFITS = 500  # of a kind, with their reasons on a card
MAX_REASON = 300  # characters
MAX_PREVIEWS = 1024 * 1024  # characters of all previews on a card

# Folders of the model store, and fields of a card.
LORAS = "loras"
CONTROLNETS = "controlnets"
UPSCALERS = "upscalers"


class ModelCards:
    """The cards of a worker's models, with the extra networks in `models_home`.

    `refresh` is to be called every `CHECK_EVERY_S`.
    """

    def __init__(
        self,
        models: Sequence[ModelDescription],
        models_home: Path,
        upscalers: Upscalers | None = None,
    ) -> None:
        self._upscalers = upscalers
        self._hashes = CheckpointHashes()
        self._loras = LoraRegistry(models_home / LORAS)
        self._controlnets = ControlNets(models_home / CONTROLNETS)
        self._embeddings = Embeddings(models_home / EMBEDDINGS)
        self._models = [(model, layers_of(model.skeleton)) for model in models]
        self._cards = self._read_folders()

    def add(self, models: Sequence[ModelDescription]) -> None:
        """Take further models, whose cards are among the others after the next `refresh`."""
        self._models += [(model, layers_of(model.skeleton)) for model in models]

    def cards(self) -> list[PublishedModel]:
        """Return the cards as of the last `refresh`, each with the tokenizer of its model."""
        return self._cards

    def refresh(self) -> None:
        """Read the folders again, and hash the files of models that have not been hashed yet."""
        self._hashes.compute()
        before, self._cards = dict(self._by_name()), self._read_folders()
        for name, card in self._by_name():
            if card != before.get(name, card):
                logger.info("the card has changed", extra={"model": name})

    def _by_name(self) -> list[tuple[str, ModelCard]]:
        return [(card.name, card) for card, _ in self._cards]

    def _read_folders(self) -> list[PublishedModel]:
        upscalers = () if self._upscalers is None else self._upscalers.installed()
        offered = tuple(UpscalerInfo(name=one.name, scale=one.scale) for one in upscalers)
        cards = []
        for model, layers in self._models:
            found = {
                LORAS: self._loras.misfits(layers),
                CONTROLNETS: self._controlnets.misfits(model.skeleton),
            }
            fitting = {kind: tuple(_fitting(reasons)) for kind, reasons in found.items()}
            misfits = {kind: dict(_misfits(reasons)) for kind, reasons in found.items()}
            extended = self._embeddings.extended(model.skeleton)
            update = {
                **fitting,
                "lora_info": tuple(_lora_info(self._loras.facts(fitting[LORAS], layers.folder))),
                "misfits": misfits,
                UPSCALERS: offered,
                EMBEDDINGS: embedding_names(extended.conditioner),
                "sha256": self._hashes.of(model),
            }
            cards.append((model.card.model_copy(update=update), tokenizer_json(extended)))
        return cards


def _lora_info(facts: Mapping[str, LoraFacts]) -> Iterator[LoraInfo]:
    """Yield what is known of LoRAs by name; previews up to `MAX_PREVIEWS` characters in all."""
    room = MAX_PREVIEWS
    for name, known in facts.items():
        if known == LoraFacts():
            continue
        preview = known.preview if len(known.preview) <= room else ""
        room -= len(preview)
        settings = known.recommended
        yield LoraInfo(
            name=name,
            trigger_words=known.trigger,
            preview=preview,
            words=known.words,
            **({} if settings is None else asdict(settings)),
        )


def _fitting(reasons: Mapping[str, str | None]) -> Iterator[str]:
    return (name for name, reason in reasons.items() if reason is None)


def _misfits(reasons: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Yield the names of those that do not fit with short reasons, up to `MAX_MISFITS`."""
    wrong = ((name, reason) for name, reason in reasons.items() if reason is not None)
    for name, reason in islice(wrong, MAX_MISFITS):
        yield name, reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1]}…"
