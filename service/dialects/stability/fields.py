"""Types of fields that both versions of Stability's API have, and the parser of a request."""

from functools import partial
from typing import Annotated, Literal, TypeVar

from anyio import to_thread
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from protocol.record import Int
from protocol.request.client_record import ClientRecord
from protocol.request.fields import WHOLE
from protocol.request.validation_errors import first_invalid_request
from service.dialects.lenient import coerced
from service.routes.deps import Services
from service.schemas.body_parser import Fields
from service.schemas.data_uri import decode_file

R = TypeVar("R", bound="StabilityRequest")

SEED_END = 2**32  # clients hold seeds in 32 bits
MAX_STABILITY_PROMPT = 10_000  # characters

Seed = Annotated[Int, Field(ge=0, lt=SEED_END), WHOLE]
StylePreset = Literal[
    "enhance",
    "anime",
    "photographic",
    "digital-art",
    "comic-book",
    "fantasy-art",
    "line-art",
    "analog-film",
    "neon-punk",
    "isometric",
    "low-poly",
    "origami",
    "modeling-compound",
    "cinematic",
    "3d-model",
    "pixel-art",
    "tile-texture",
]
SEED = "0: a random one."
STYLE = "The name of a LoRA of the model, which is applied; refused if there is none."


def _file(value: object, info: ValidationInfo) -> bytes:
    return decode_file(info.field_name or "body", value)


File = Annotated[
    bytes,
    BeforeValidator(_file),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "contentEncoding": "base64",
            "description": "A PNG, JPEG, WebP or AVIF file in base64 (in a form: the file itself).",
        }
    ),
]


class StabilityRequest(ClientRecord):
    """A request of this API; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore")


async def parsed(kind: type[R], fields: Fields, services: Services) -> R:
    """Return the fields of a request, numbers also from text. Raises `InvalidRequest`."""
    parse = partial(_parsed, kind, fields)
    if any(
        isinstance(value, str | bytes) and len(value) > MAX_STABILITY_PROMPT
        for value in fields.values()
    ):
        # In a thread, because it may be megabytes of base64.
        return await to_thread.run_sync(parse, limiter=services.decoding)
    return parse()


def _parsed(kind: type[R], fields: Fields) -> R:
    try:
        return kind.model_validate(coerced(fields, kind))
    except ValidationError as error:
        raise first_invalid_request(error) from error
