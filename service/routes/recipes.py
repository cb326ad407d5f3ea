"""POST /v1/read: the recipe in an image file, and its provenance."""

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from protocol.request.generation_params import parse_params
from protocol.request.tasks import Task
from service.auth.api_keys import User
from service.recipes import reader
from service.recipes.credentials import Credentials, CredentialsStatus
from service.recipes.provenance import Provenance, read_provenance
from service.recipes.reader import ImageRecipe, Source
from service.routes.deps import ServicesDep
from service.routes.submission import fetched
from service.schemas.body_parser import Fields, read_fields
from service.schemas.examples import READ_EXAMPLE, READ_REQUEST_EXAMPLE
from service.schemas.problem_responses import ACCESS_STATUSES, SERVER_STATUSES, problem_responses
from service.schemas.request_bodies import body_operation, parameters
from service.schemas.requests import ReadRequest
from service.schemas.response_builder import json_response


class CredentialsResponse(BaseModel):
    """The content credentials (C2PA) in an image file: its active manifest."""

    status: CredentialsStatus = Field(
        description="valid: the file is as it was signed; whether its signer is to be trusted is "
        "not checked. invalid: it was changed, or the signature is wrong. unchecked: the server "
        "lacks c2pa-python, or the check would take too much time or memory."
    )
    issuer: str = Field(default="", description="The organisation in the signer's certificate.")
    generator: str = Field(default="", description="The program that made the claim.")
    failures: list[str] = Field(default=[], description="What is invalid, by the codes of C2PA.")


class ReadResponse(BaseModel):
    """The recipe in an image file, and its provenance."""

    source: Source | None = Field(
        default=None,
        description="The program that wrote it; missing if no recipe was found. Programs that "
        "write AUTOMATIC1111's text are automatic1111, too.",
    )
    task: Task | None = Field(
        default=None, description="The route that generates it: /v1/ and this name."
    )
    request: dict[str, Any] | None = Field(
        default=None,
        description="The JSON body for that route. For recipes of Darkroom and AUTOMATIC1111.",
    )
    needs: list[str] = Field(
        default=[], description="The files that must be added to the body, such as image and mask."
    )
    parameters: dict[str, str | int | float | bool] = Field(
        default={}, description="The parameters by the program's own names."
    )
    texts: dict[str, str] = Field(
        default={}, description="All texts in the file, by the names that they have in a PNG."
    )
    digital_source_type: str | None = Field(
        default=None,
        description="How the image came about, by the IPTC's vocabulary; missing if the file does "
        "not say so.",
    )
    content_credentials: CredentialsResponse | None = Field(
        default=None, description="Missing if the file has none."
    )


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ReadResponse,
        "description": "The recipe; without a source if the file has none.",
        "content": {"application/json": {"example": READ_EXAMPLE}},
    },
    **problem_responses(*ACCESS_STATUSES, *SERVER_STATUSES, 400, 408, 413, 415, 422, 429),
}
OPERATION = parameters("RequestId") | body_operation(ReadRequest, READ_REQUEST_EXAMPLE)
router = APIRouter(prefix="/v1", tags=["images"], responses=RESPONSES)


@router.post("/read", openapi_extra=OPERATION)
async def read_recipe(request: Request, services: ServicesDep) -> Response:
    """Read the recipe in an image: the prompt and the settings that it was generated with.

    Its digital source type and its content credentials are read, too.
    The image is neither decoded nor stored, and nothing that it names is fetched. A read counts as
    a request of the key, not as an image.
    """
    user: User = request.scope["user"]
    await services.admission.count(user)
    fields = await read_fields(request, ReadRequest, services.decoding)
    fields = await fetched(fields, request, services)
    found = await to_thread.run_sync(_read, fields, limiter=services.decoding)
    return json_response(found)


def _read(fields: Fields) -> ReadResponse:
    image = parse_params(ReadRequest, fields).image
    found = reader.read_recipe("image", image)
    return _response(found, read_provenance("image", image, found.texts))


def _response(found: ImageRecipe, provenance: Provenance) -> ReadResponse:
    recipe, credentials = found.recipe, provenance.credentials
    return ReadResponse(
        source=found.source,
        task=recipe.task if recipe else None,
        request=recipe.fields if recipe else None,
        needs=recipe.needs if recipe else [],
        parameters=dict(found.parameters),
        texts=dict(found.texts),
        digital_source_type=provenance.digital_source_type,
        content_credentials=credentials and CredentialsResponse(**_shown(credentials)),
    )


def _shown(credentials: Credentials) -> dict[str, Any]:
    return {name: getattr(credentials, name) for name in CredentialsResponse.model_fields}
