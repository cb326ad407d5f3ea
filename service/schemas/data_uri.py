"""Files inside JSON: base64, as it stands or in a data URI. URLs are never fetched."""

import base64
import binascii

from protocol.errors import InvalidRequest

SPACE = b" \t\r\n"  # some encoders wrap their lines
BASE64 = "a file in base64, or a data URI of one"


def upload_bytes(field: str, value: object) -> bytes:
    """The file in a field: bytes as they are, text decoded; raises `InvalidRequest`."""
    match value:
        case bytes():
            data = value
        case str():
            data = _decoded(field, value)
        case _:
            raise InvalidRequest(field, "null" if value is None else value, BASE64, "wrong-type")
    if not data:
        raise InvalidRequest(field, "an empty file", "a picture", "empty-file")
    return data


def _decoded(field: str, text: str) -> bytes:
    head, comma, payload = text.partition(",")
    if not comma:
        payload = text
    elif not (head.startswith("data:") and head.endswith(";base64")):
        raise InvalidRequest(field, text, BASE64, "bad-base64")
    try:
        return base64.b64decode(payload.encode("ascii").translate(None, SPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(field, text, BASE64, "bad-base64") from error
