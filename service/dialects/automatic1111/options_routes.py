"""GET and POST options: each client has its own, where AUTOMATIC1111 has one for all."""

from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool

from protocol.errors import InvalidRequest, NotReady
from protocol.request.model_card import ModelCard
from protocol.request.tasks import Task
from service.dialects.automatic1111.description import NULL, READ, WRITE, body, errors
from service.dialects.automatic1111.options import SHOWN, Options, model_named, parse_options
from service.dialects.automatic1111.timed_route import PREFIX, TimedRoute
from service.dialects.lenient import read_json
from service.routes.deps import Services, ServicesDep, UserDep

router = APIRouter(prefix=PREFIX, route_class=TimedRoute, responses=errors(*READ))

CHECKPOINT = "sd_model_checkpoint"


@router.get("/options")
async def webui_options(services: ServicesDep, user: UserDep) -> dict[str, Any]:
    """Get the options of this client: those that it has chosen, else the defaults.

    `sd_model_checkpoint` is the title of the model of its next requests.
    """
    chosen = await services.options.read(user.client)
    shown = Options.model_validate(chosen.values).model_dump(include=SHOWN)
    if (card := await _chosen_card(services, shown[CHECKPOINT])) is not None:
        shown[CHECKPOINT] = title_of(card)
    return {**shown, "sd_checkpoint_hash": card.sha256 if card else ""}


@router.post(
    "/options",
    openapi_extra=body(Options, {"CLIP_stop_at_last_layers": 1, "samples_format": "png"}),
    responses=errors(*WRITE) | NULL,
)
async def set_webui_options(request: Request, services: ServicesDep, user: UserDep) -> None:
    """Choose options for this client's next requests; they expire after 30 days without use.

    Options without an effect here are accepted and ignored, so that all may be sent back.
    """
    options = parse_options(await read_json(request, services.decoding))
    if title := options.get(CHECKPOINT):
        options[CHECKPOINT] = await _known_title(services, str(title))
    await run_in_threadpool(services.options.choose, user.client, options)


async def _known_title(services: Services, title: str) -> JsonValue:
    """Return the title of a model by any of its spellings. Raises `InvalidRequest`."""
    cards = await services.submitter.models.cards()
    name = model_named(title, cards)
    if name not in cards:
        bound = f"one of {', '.join(map(title_of, cards.values()))}"
        raise InvalidRequest(CHECKPOINT, title, bound, "unknown-model")
    return title_of(cards[name])


async def _chosen_card(services: Services, title: str) -> ModelCard | None:
    """Return the card of a title, without one that of requests that name none; None if unknown."""
    models = services.submitter.models
    if title:
        cards = await models.cards()
        return cards.get(model_named(title, cards))
    with suppress(NotReady, InvalidRequest):
        return await models.card(Task.TXT2IMG, None)
    return None


def title_of(card: ModelCard) -> str:
    """Return the title of a model: its name, with a hash if it is a single file."""
    return f"{card.name} [{card.short_hash}]" if card.short_hash else card.name
