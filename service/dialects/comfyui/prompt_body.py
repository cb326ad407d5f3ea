"""The body of POST /prompt: its fields in their types, but for the graph."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from protocol.request.validation_errors import first_invalid_request
from service.dialects.comfyui.graph.errors import Fault, GraphRefused
from service.schemas.body_parser import Fields

MAX_ID = 200  # characters
MAX_NUMBER = 2**53
PROMPT_ID = re.compile("[0-9A-Za-z_-]{0,100}")
OFF = ("", "none", "default")  # ways to make previews


def _client_id(text: str) -> str:
    if len(text) > MAX_ID or not text.isprintable():
        raise ValueError(f"up to {MAX_ID} printable characters")
    return text


def _prompt_id(text: str) -> str:
    if not PROMPT_ID.fullmatch(text):
        raise ValueError("a UUID, or up to 100 letters, digits, - and _")
    return text


class PromptBody(BaseModel):
    """The fields of a prompt. None was not given; others than these are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    prompt: Any = None
    client_id: Annotated[str, AfterValidator(_client_id)] | None = None
    prompt_id: Annotated[str, AfterValidator(_prompt_id)] | None = None
    number: Annotated[int | float, Field(gt=-MAX_NUMBER, lt=MAX_NUMBER)] | None = None
    front: Any = None
    extra_data: dict[str, Any] | None = None
    partial_execution_targets: list[Any] | None = None

    @property
    def in_front(self) -> bool:
        return self.front is True

    @property
    def extra(self) -> Mapping[str, Any]:
        return self.extra_data or {}

    @property
    def with_previews(self) -> bool:
        method = self.extra.get("preview_method")
        return isinstance(method, str) and method.lower() not in OFF

    @property
    def targets(self) -> list[str] | None:
        """The ids of the nodes whose outputs are wanted; None for all."""
        targets = self.partial_execution_targets
        return None if targets is None else [str(one) for one in targets]


def parse_prompt_body(fields: Fields) -> PromptBody:
    """Return the fields of a body. Raises `GraphRefused` for the first that is wrong."""
    try:
        return PromptBody.model_validate(fields)
    except ValidationError as error:
        wrong = first_invalid_request(error)
        details = f"{wrong.field} must be {wrong.bound}"
        raise GraphRefused(Fault("invalid_prompt", f"Invalid {wrong.field}", details)) from error
