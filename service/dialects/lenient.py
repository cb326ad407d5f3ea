"""Reading requests as clients of other systems write them.

Such clients send JSON under any Content-Type, fields of their own, null for what they leave out,
and numbers as text. Here such fields become ours; `protocol.request` validates them afterwards.
"""

import re
from collections.abc import Mapping

from anyio import CapacityLimiter
from fastapi import Request
from pydantic import BaseModel

from protocol.errors import InvalidRequest, PayloadTooLarge
from service.schemas.body_parser import (
    BOOLEANS,
    Fields,
    bool_fields,
    check_encoding,
    number_fields,
    number_in,
    parse_json_body,
    parse_json_list_body,
    read_body,
)

Size = tuple[int, int]  # width, height in pixels
ADDRESSES = ("http://", "https://")
SIZE = re.compile(r"\s*([0-9]{1,6})\s*[xX×]\s*([0-9]{1,6})\s*")


async def read_json(
    request: Request, large: CapacityLimiter, max_bytes: int | None = None
) -> Fields:
    """Return the fields of a JSON object whatever its Content-Type; an empty body has none.

    `large` limits the threads that parse large bodies. Raises `UnsupportedMediaType` for an encoded
    body, `PayloadTooLarge` for one of more than `max_bytes` and `MalformedBody` for one that is no
    JSON object.
    """
    data = await _read(request)
    if max_bytes is not None and len(data) > max_bytes:
        raise PayloadTooLarge("body", f"{len(data)} bytes", f"at most {max_bytes} bytes")
    return await parse_json_body(data, large) if data.strip() else {}


async def read_json_list(request: Request, large: CapacityLimiter) -> list[object]:
    """Return the items of a JSON list as `read_json` does; an empty body has none."""
    data = await _read(request)
    return await parse_json_list_body(data, large) if data.strip() else []


async def _read(request: Request) -> bytearray:
    check_encoding(request)
    return await read_body(request)


def number(value: object) -> object:
    """Return the number that a text holds; anything else unchanged, for validation to judge."""
    return number_in(value) if isinstance(value, str) else value


def integer(value: object) -> object:
    """Return a number, or one in a text, without its fraction; anything else unchanged."""
    value = number(value)
    return int(value) if isinstance(value, float) and abs(value) < 2**63 else value


def boolean(value: object) -> object:
    """Return the truth value that a text or the numbers 0 and 1 stand for; else `value`."""
    match value:
        case str():
            return BOOLEANS.get(value.strip().lower(), value)
        case bool():
            return value
        case int() | float() if value in (0, 1):
            return bool(value)
        case _:
            return value


def coerced(fields: Fields, schema: type[BaseModel]) -> Fields:
    """Return `fields` with text converted where `schema` has a number or a truth value.

    Null, and an empty text in such a field, is a field that was left out.
    """
    numbers, booleans = number_fields(schema), bool_fields(schema)
    converted: Fields = {}
    for name, value in fields.items():
        if value is None or (value == "" and name in numbers | booleans):
            continue
        if name in numbers:
            value = number(value)
        elif name in booleans:
            value = boolean(value)
        converted[name] = value
    return converted


def translated(fields: Fields, names: Mapping[str, str]) -> tuple[Fields, dict[str, str]]:
    """Return the fields that `names` knows under our names, and the client's name of each.

    `names` has our name for each of the client's; several may mean the same field. All others, and
    null, are left out. Raises `InvalidRequest` for a field given twice with different values.
    """
    ours: Fields = {}
    theirs: dict[str, str] = {}
    for name, field in names.items():
        value = fields.get(name)
        if value is None:
            continue
        if field in ours and number(ours[field]) != number(value):
            bound = f"left out, or the same as {theirs[field]}"
            raise InvalidRequest(name, value, bound, "given-twice")
        ours.setdefault(field, value)
        theirs.setdefault(field, name)
    return ours, theirs


def parse_size(field: str, text: object) -> Size:
    """Return width and height of a text such as 512x512. Raises `InvalidRequest`."""
    found = SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidRequest(field, text, "width and height, as in 512x512", "malformed")
    return int(found[1]), int(found[2])


def file_field(name: str, value: str) -> Fields:
    """Return an image in base64 under its name, or an address under the name of addresses.

    An address is fetched only where the operator allows it, through the SSRF guard.
    """
    return {f"{name}_url" if value[:8].lower().startswith(ADDRESSES) else name: value}
