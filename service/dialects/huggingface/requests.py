"""Bodies of Hugging Face's requests: JSON with `inputs` and `parameters`, or an image file."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from protocol.errors import InvalidRequest
from protocol.request.tasks import Task
from service.dialects.lenient import boolean
from service.schemas.body_parser import (
    JSON_TYPE,
    Fields,
    check_encoding,
    parse_json_body,
    read_body,
)
from service.schemas.data_uri import decode_file

INPUTS, PARAMETERS, OPTIONS = "inputs", "parameters", "options"
PROMPT, MASK = f"{PARAMETERS}.prompt", f"{PARAMETERS}.mask"
WAIT_HEADER, WAIT_OPTION = "x-wait-for-model", "wait_for_model"
# Parameters that only requests with an image have.
OF_IMAGES = ("prompt", "target_size", "mask")
DATA_URI = "data:image/"
# The first bytes of a file of each format, and where they stand.
SIGNATURES = ((b"\x89PNG", 0), (b"\xff\xd8\xff", 0), (b"RIFF", 0), (b"ftyp", 4))
HEAD = 24  # characters of base64 that hold a signature


@dataclass(frozen=True)
class InferenceRequest:
    """A request: the prompt or the image that it has as `inputs`, and its parameters."""

    inputs: str | bytes
    parameters: Fields
    waits: bool  # for a model to be loaded
    mask: bytes | None = None

    @property
    def task(self) -> Task:
        """Return the task; the hosted API knows it by the model."""
        if isinstance(self.inputs, str):
            return Task.TXT2IMG
        return Task.IMG2IMG if self.mask is None else Task.INPAINT


async def read_request(request: Request, large: CapacityLimiter) -> InferenceRequest:
    """Return a request. `large` limits the threads that parse large bodies.

    Raises `InvalidRequest` and its kin.
    """
    check_encoding(request)
    waits = boolean(request.headers.get(WAIT_HEADER, "")) is True
    data = await read_body(request)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != JSON_TYPE and not data.lstrip().startswith(b"{"):
        return InferenceRequest(decode_file(INPUTS, bytes(data)), {}, waits)
    fields = await parse_json_body(data, large)
    return await to_thread.run_sync(_parse, fields, waits, limiter=large)


def _parse(fields: Fields, waits: bool) -> InferenceRequest:
    """Return the request in a JSON object; it may decode megabytes of base64."""
    parameters, options = _object(fields, PARAMETERS), _object(fields, OPTIONS)
    waits = waits or boolean(options.get(WAIT_OPTION)) is True
    inputs = fields.get(INPUTS)
    if not isinstance(inputs, str):
        raise InvalidRequest(INPUTS, inputs, "a prompt, or an image in base64", "wrong-type")
    if parameters.keys().isdisjoint(OF_IMAGES) and not _is_image(inputs):
        return InferenceRequest(inputs, parameters, waits)
    mask = parameters.get("mask")
    return InferenceRequest(
        decode_file(INPUTS, inputs),
        parameters,
        waits,
        None if mask is None else decode_file(MASK, mask),
    )


def _object(fields: Fields, name: str) -> Fields:
    """Return a field that is an object, without what is null in it."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(name, value, "an object", "wrong-type")
    return {key: inner for key, inner in value.items() if inner is not None}


def _is_image(text: str) -> bool:
    """Return True if a text is an image file in base64, by its first bytes."""
    if text.startswith(DATA_URI):
        return True
    try:
        head = base64.b64decode(text[:HEAD], validate=True)
    except (binascii.Error, ValueError):
        return False
    return any(head.startswith(mark, place) for mark, place in SIGNATURES)
