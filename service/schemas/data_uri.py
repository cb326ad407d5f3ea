"""Files inside JSON: plain base64 or a data URI with base64. URLs are never fetched."""

import base64
import binascii

from protocol.errors import InvalidRequest

SPACE = b" \t\r\n"  # some encoders wrap lines
BOUND = "a file in base64, or a data URI of one"


def decode_file(field: str, value: object) -> bytes:
    """Return the file in a field: bytes unchanged, text decoded. Raises `InvalidRequest`."""
    match value:
        case bytes():
            data = value
        case str():
            data = _decode_text(field, value)
        case _:
            raise InvalidRequest(field, "null" if value is None else value, BOUND, "wrong-type")
    if not data:
        raise InvalidRequest(field, "an empty file", "an image", "empty-file")
    return data


def _decode_text(field: str, text: str) -> bytes:
    head, comma, payload = text.partition(",")
    if not comma:
        payload = text
    elif not (head.startswith("data:") and head.endswith(";base64")):
        raise InvalidRequest(field, text, BOUND, "bad-base64")
    try:
        return base64.b64decode(payload.encode("ascii").translate(None, SPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(field, text, BOUND, "bad-base64") from error
