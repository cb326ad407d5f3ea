"""Parser of request bodies: strict JSON or multipart forms.

All values of a form are text. Values of numeric fields are converted to numbers, so that both
content types give the same fields. Files are bytes.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from protocol.errors import InvalidRequest, MalformedBody, UnsupportedMediaType
from service.schemas import controls

Fields = dict[str, object]  # JSON values, and bytes for the files of a form

JSON_TYPE = "application/json"
FORM_TYPE = "multipart/form-data"
MAX_FORM_FIELDS = 64
MAX_FORM_FILES = 2 + len(controls.FILE_FIELDS)
SMALL_JSON = 2**15  # bytes that are parsed on the event loop, within half a millisecond
# An empty list of two bytes takes thirty times that in memory; no valid request has so many parts.
STRUCTURE = (b",", b"[", b"{")
MAX_JSON_PARTS = 200_000
MAX_FORM_TEXT = 2**16  # bytes; longer values can only be images, which are sent as files
INTEGER = re.compile(r"-?[0-9]{1,20}")
NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")


async def read_fields(request: Request, body: type[BaseModel], large: CapacityLimiter) -> Fields:
    """Return the fields of a request; `large` limits the threads that parse large JSON bodies.

    Raises `UnsupportedMediaType` for other content types, `MalformedBody` for invalid bodies.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType("Content-Encoding", encoding, "left out")
    content_type = request.headers.get("content-type", "")
    match content_type.partition(";")[0].strip().lower():
        case "application/json":
            return await _read_json(request, large)
        case "multipart/form-data":
            return await _read_form(request, body)
        case _:
            raise UnsupportedMediaType(
                "Content-Type", content_type or None, f"{JSON_TYPE} or {FORM_TYPE}"
            )


async def _read_json(request: Request, large: CapacityLimiter) -> Fields:
    data = bytearray()  # not `request.body()`, which keeps the bytes as long as the client waits
    async for chunk in request.stream():
        data += chunk
    if len(data) <= SMALL_JSON:
        return parse_json(data)
    # In a thread, because megabytes of base64 would block the event loop.
    return await to_thread.run_sync(parse_json, data, limiter=large)


def parse_json(data: bytes | bytearray) -> Fields:
    """Parse one JSON object in UTF-8, strictly by RFC 8259: no NaN, no duplicate key."""
    fields = _parse_value(data)
    if not isinstance(fields, dict):
        raise MalformedBody("body", fields, "a JSON object", "not-an-object")
    return fields


def _parse_value(data: bytes | bytearray, field: str = "body") -> object:
    parts = sum(data.count(mark) for mark in STRUCTURE)
    if parts > MAX_JSON_PARTS:
        bound = f"JSON of at most {MAX_JSON_PARTS} brackets and commas"
        raise MalformedBody(field, f"JSON of {parts}", bound, "json-too-complex")
    try:
        return json.loads(
            data.decode("utf-8"), parse_constant=_reject_constant, object_pairs_hook=_unique_keys
        )
    except RecursionError:
        raise MalformedBody(field, "deep", "JSON nested less deeply", "json-too-deep") from None
    except UnicodeDecodeError as error:
        raise MalformedBody(field, f"byte {error.start}", "JSON in UTF-8", "not-utf-8") from error
    except json.JSONDecodeError as error:
        place = f"wrong at line {error.lineno}, column {error.colno}"
        raise MalformedBody(field, place, "JSON", "invalid-json") from error
    except ValueError as error:  # an integer of thousands of digits
        raise MalformedBody(field, "a huge number", "JSON", "invalid-json") from error


def number_fields(body: type[BaseModel]) -> frozenset[str]:
    """Return the fields of `body` that hold numbers."""
    return frozenset(
        name for name, field in body.model_fields.items() if {int, float} & _types(field.annotation)
    )


def list_fields(body: type[BaseModel]) -> frozenset[str]:
    """Return the fields of `body` that hold lists, which are JSON text in a form."""
    return frozenset(
        name
        for name, field in body.model_fields.items()
        if any(get_origin(kind) is tuple for kind in _types(field.annotation))
    )


async def _read_form(request: Request, body: type[BaseModel]) -> Fields:
    try:
        form = await request.form(
            max_files=MAX_FORM_FILES,
            max_fields=MAX_FORM_FIELDS,
            max_part_size=MAX_FORM_TEXT,
        )
    except HTTPException as error:  # raised by Starlette for any invalid form
        raise MalformedBody("body", "broken", "a multipart form", "invalid-form") from error
    try:
        return controls.attach_files({name: await _form_value(form, name, body) for name in form})
    finally:
        await form.close()


async def _form_value(form: FormData, name: str, body: type[BaseModel]) -> object:
    values = form.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(name, f"given {len(values)} times", "given once", "duplicate-field")
    value = values[0]
    if isinstance(value, UploadFile):
        return await value.read()
    if name in list_fields(body):
        return _parse_value(value.encode(), name)
    return _number(value) if name in number_fields(body) else value


def _number(text: str) -> object:
    """Return the number in `text`, else the text itself, which validation will reject."""
    if INTEGER.fullmatch(text):
        return int(text)
    return float(text) if NUMBER.fullmatch(text) else text


def _types(annotation: Any) -> set[Any]:
    """Return the plain types in an annotation such as `int | None`."""
    if get_origin(annotation) in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _types(part)}
    if hasattr(annotation, "__metadata__"):
        return _types(get_args(annotation)[0])
    return {annotation}


def _reject_constant(name: str) -> float:
    raise MalformedBody("body", name, "JSON, which has finite numbers only", "not-finite")


def _unique_keys(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name, times = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidRequest(name, f"given {times} times", "given once", "duplicate-field")
    return fields
