"""The names of models in Replicate's API: an owner and a name, and the id of a version.

A model has one version, whose id follows from its name, so that clients can keep it. Any owner is
taken, so that a reference such as `stability-ai/sdxl` works where a model has the name or alias
`sdxl`; an alias may also be the id of a version.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from protocol.errors import InvalidRequest
from protocol.request.model_card import ModelCard, canonical_name
from service.routes.models import OWNER

REFERENCE = re.compile(
    r"(?P<owner>[^/:]{1,200})/(?P<name>[^/:]{1,200})(:(?P<version>[^/:]{1,200}))?"
)
BOUND = "the id of a version, or owner/name, of a model of GET /v1/models"


@dataclass(frozen=True)
class ModelName:
    """A model as a client has named it."""

    owner: str
    name: str

    @property
    def text(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def path(self) -> str:
        """Return its part of a path of a URL."""
        return f"{quote(self.owner, safe='')}/{quote(self.name, safe='')}"


def own_name(card: ModelCard) -> ModelName:
    """Return the name of a model under the owner that all models have here."""
    return ModelName(OWNER, card.name)


def version_id(card: ModelCard) -> str:
    """Return the id of the one version of a model."""
    return hashlib.sha256(f"darkroom model {card.name}".encode()).hexdigest()


def named_version(text: object, cards: Mapping[str, ModelCard]) -> tuple[ModelName, ModelCard]:
    """Return the model of a version: an id, `owner/name`, both, or a name or alias alone.

    Raises `InvalidRequest` for anything that no model has.
    """
    if not isinstance(text, str):
        raise InvalidRequest(
            "version", text, BOUND, "missing-field" if text is None else "wrong-type"
        )
    found = REFERENCE.fullmatch(text)
    wanted = (found["version"] or found["name"]) if found else text
    card = card_of(wanted, cards)
    if card is None:
        raise InvalidRequest("version", text, BOUND, "unknown-model")
    return ModelName(found["owner"], found["name"]) if found else own_name(card), card


def card_of(wanted: str, cards: Mapping[str, ModelCard]) -> ModelCard | None:
    """Return the card of the model with a name, an alias or the id of a version."""
    known = canonical_name(wanted, cards)
    if known is not None:
        return cards[known]
    return next((card for card in cards.values() if version_id(card) == wanted), None)
