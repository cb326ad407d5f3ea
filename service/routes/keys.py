"""GET /v1/key: what the API key of a request may do."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from protocol.auth.api_keys import KeyLimits, Scope
from service.middleware.public_paths import OWN_KEY
from service.routes.deps import UserDep
from service.schemas.body_parser import JSON_TYPE
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses

EXAMPLE = {
    "name": "web shop",
    "scopes": ["generate", "read"],
    "limits": {"requests_per_minute": 30, "images_per_day": 500},
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The key.", "content": {JSON_TYPE: {"example": EXAMPLE}}},
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES),
}
router = APIRouter(tags=["keys"])


class KeyResponse(BaseModel):
    """An API key, without its secret."""

    name: str = Field(description="Empty where the service needs no key.")
    scopes: list[Scope]
    limits: KeyLimits = Field(description="Only those that the key has.")


@router.get(OWN_KEY, responses=RESPONSES, response_model_exclude_none=True)
async def get_key(user: UserDep) -> KeyResponse:
    """Get the name, the scopes and the limits of the API key of this request, in any scope."""
    return KeyResponse(name=user.name, scopes=sorted(user.scopes), limits=user.limits)
