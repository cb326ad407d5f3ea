"""/v1/tokens: the number of tokens of a prompt, as a model counts them."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from protocol.errors import InvalidRequest, NotReady
from protocol.request.generation_params import parse_params
from protocol.request.model_card import ModelCard, canonical_name
from protocol.request.resolve import prompt_tokens
from protocol.request.tasks import Task
from service.routes.deps import Services, ServicesDep
from service.schemas.body_parser import JSON_TYPE, read_fields
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import REFERENCE
from service.schemas.requests import TokensRequest

PATH = "/v1/tokens"
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": {"$ref": REFERENCE.format(model=TokensRequest.__name__)},
                "example": {"prompt": "a (red:1.2) heart"},
            }
        },
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The number of tokens.",
        "content": {
            JSON_TYPE: {"example": {"model": "sdxl-base", "tokens": 3, "max_tokens": 225}},
        },
    },
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 400, 408, 413, 415, 422),
}
router = APIRouter(tags=["models"])


class TokensResponse(BaseModel):
    """The length of a prompt."""

    model: str
    tokens: int = Field(
        description="Without start and end tokens; a row that BREAK ends counts as full."
    )
    max_tokens: int = Field(description="The longest prompt that the model takes, in tokens.")


@router.post(PATH, openapi_extra=BODY, responses=RESPONSES)
async def count_tokens(request: Request, services: ServicesDep) -> TokensResponse:
    """Count the tokens of a prompt with the tokenizer of a model.

    Weights and tags of LoRAs in the prompt are read as syntax, so the number is the one that the
    model's `max_prompt_tokens` bounds. No job is queued, and no limit of a key counts it.
    """
    fields = await read_fields(request, TokensRequest, services.decoding)
    asked = parse_params(TokensRequest, fields)
    card = await _card(asked.model, services)
    tokens = await run_in_threadpool(_count, asked, card, services)
    return TokensResponse(model=card.name, tokens=tokens, max_tokens=card.max_prompt_tokens)


async def _card(model: str | None, services: Services) -> ModelCard:
    if model is None:
        return await services.directory.card(Task.TXT2IMG, None)
    cards = await services.directory.cards()
    name = canonical_name(model, cards)
    if not cards:
        raise NotReady("no worker has published a model yet")
    if name is None:
        raise InvalidRequest("model", model, f"one of {', '.join(cards)}", "unknown-model")
    return cards[name]


def _count(asked: TokensRequest, card: ModelCard, services: Services) -> int:
    if not card.reads_prompts:
        return 0
    counter = services.submitter.tokens.for_model(card)
    return prompt_tokens(asked.prompt, asked.prompt_syntax, card, counter)
