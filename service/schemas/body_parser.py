"""Parser of request bodies: strict JSON or multipart forms.

All values of a form are text. Values of numeric and boolean fields are converted, so that both
content types give the same fields. Files are bytes. An empty value is a field that was not filled
in, except where empty text is a value.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from protocol.errors import (
    InvalidRequest,
    MalformedBody,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from service.schemas import controls

T = TypeVar("T")
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
INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
NUMBER = re.compile(r"[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")


async def read_fields(request: Request, body: type[BaseModel], large: CapacityLimiter) -> Fields:
    """Return the fields of a request; `large` limits the threads that parse large JSON bodies.

    Raises `UnsupportedMediaType` for other content types, `MalformedBody` for invalid bodies.
    """
    check_encoding(request)
    content_type = request.headers.get("content-type", "")
    match content_type.partition(";")[0].strip().lower():
        case "application/json":
            return await parse_json_body(await read_body(request), large)
        case "multipart/form-data":
            return await _read_form(request, body)
        case _:
            raise UnsupportedMediaType(
                "Content-Type", content_type or None, f"{JSON_TYPE} or {FORM_TYPE}"
            )


def check_encoding(request: Request) -> None:
    """Raise `UnsupportedMediaType` for a compressed body."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType("Content-Encoding", encoding, "left out")


async def read_body(request: Request) -> bytearray:
    """Return the body. `request.body()` would keep it as long as the client waits."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
    return data


async def parse_json_body(data: bytearray, large: CapacityLimiter) -> Fields:
    """Return the fields of a JSON object; `large` limits the threads that parse large ones."""
    return await _parsed(parse_json, data, large)


async def parse_json_list_body(data: bytearray, large: CapacityLimiter) -> list[object]:
    """Return the items of a JSON list; `large` limits the threads that parse large ones."""
    return await _parsed(_parse_json_list, data, large)


async def _parsed(parse: Callable[[bytearray], T], data: bytearray, large: CapacityLimiter) -> T:
    if len(data) <= SMALL_JSON:
        return parse(data)
    # In a thread, because megabytes of base64 would block the event loop.
    return await to_thread.run_sync(parse, data, limiter=large)


def parse_json(data: bytes | bytearray) -> Fields:
    """Parse one JSON object in UTF-8, strictly by RFC 8259: no NaN, no duplicate key.

    A byte order mark is skipped, as the RFC allows: editors and Windows programs write one.
    """
    fields = _parse_value(data.removeprefix(codecs.BOM_UTF8))
    if not isinstance(fields, dict):
        raise MalformedBody("body", fields, "a JSON object", "not-an-object")
    return fields


def _parse_json_list(data: bytearray) -> list[object]:
    """Parse one JSON list, as `parse_json` parses an object."""
    items = _parse_value(data.removeprefix(codecs.BOM_UTF8))
    if not isinstance(items, list):
        raise MalformedBody("body", items, "a JSON list", "not-a-list")
    return items


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


@cache
def number_fields(body: type[BaseModel]) -> frozenset[str]:
    """Return the fields of `body` that hold numbers."""
    return frozenset(
        name for name, field in body.model_fields.items() if {int, float} & _types(field.annotation)
    )


@cache
def bool_fields(body: type[BaseModel]) -> frozenset[str]:
    """Return the fields of `body` that are true or false."""
    return frozenset(
        name for name, field in body.model_fields.items() if bool in _types(field.annotation)
    )


@cache
def list_fields(body: type[BaseModel]) -> frozenset[str]:
    """Return the fields of `body` that hold lists, which are JSON text in a form."""
    return frozenset(
        name
        for name, field in body.model_fields.items()
        if any(get_origin(kind) is tuple for kind in _types(field.annotation))
    )


@cache
def text_fields(body: type[BaseModel]) -> frozenset[str]:
    """Return the fields of `body` that hold any text, also none."""
    return frozenset(name for name, field in body.model_fields.items() if field.annotation is str)


class _FormParser(MultiPartParser):
    """Starlette's parser, which names the field whose text is over the bound."""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            bound = f"text of at most {self.max_part_size} bytes; images are sent as files"
            shown = f"text of over {self.max_part_size} bytes"
            raise PayloadTooLarge(part.field_name, shown, bound, "form-text-too-long")
        super().on_part_data(data, start, end)


async def _read_form(request: Request, body: type[BaseModel]) -> Fields:
    form = await parse_form(request, MAX_FORM_FILES)
    try:
        values = {name: await _form_value(form, name, body) for name in form}
    finally:
        await form.close()
    return controls.attach_files(
        {name: value for name, value in values.items() if not _is_unset(name, value, body)}
    )


async def parse_form(request: Request, max_files: int) -> FormData:
    """Return a multipart form of bounded text. Raises `MalformedBody` and `PayloadTooLarge`."""
    parser = _FormParser(
        request.headers,
        request.stream(),
        max_files=max_files,
        max_fields=MAX_FORM_FIELDS,
        max_part_size=MAX_FORM_TEXT,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        bound = f"a multipart form of at most {MAX_FORM_FIELDS} fields and {max_files} files"
        raise MalformedBody("body", "broken", bound, "invalid-form") from error


def _is_unset(name: str, value: object, body: type[BaseModel]) -> bool:
    """Return True for a field that was left empty, but not for an unknown field."""
    known = name in body.model_fields or name in controls.FILE_FIELDS
    return value is None or (value == "" and known and name not in text_fields(body))


async def _form_value(form: FormData, name: str, body: type[BaseModel]) -> object:
    values = form.getlist(name)
    if len(values) > 1:
        raise InvalidRequest(name, f"given {len(values)} times", "given once", "duplicate-field")
    value = values[0]
    if isinstance(value, UploadFile):
        return await file_content(value)
    if name in list_fields(body) and value:
        return parse_json_text(name, value)
    if name in bool_fields(body):
        return BOOLEANS.get(value.lower(), value)  # validation will reject another text
    return number_in(value) if name in number_fields(body) else value


async def file_content(file: UploadFile) -> bytes | None:
    """Return a file of a form.

    None: a field in which no file was chosen, which is sent as an empty file without a name.
    """
    return await file.read() or (b"" if file.filename else None)


def parse_json_text(field: str, text: str) -> object:
    """Return the value of a form field that is JSON text. Raises `MalformedBody`."""
    return _parse_value(text.encode("utf-8", "surrogatepass"), field)


def number_in(text: str) -> object:
    """Return the number in `text`, else the text itself, which validation will reject."""
    number = text.strip()
    if INTEGER.fullmatch(number):
        return int(number)
    return float(number) if NUMBER.fullmatch(number) else text


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
