"""Files inside JSON: base64, alone or in a data URI (RFC 2397). URLs are never fetched.

Every spelling that RFC 4648 and common encoders have is read: both alphabets, with and without
padding, broken into lines. A data URI may have capitals, parameters and percent escapes, as URIs
may.
"""

import base64
import binascii
import re

from protocol.errors import InvalidRequest

SPACE = b" \t\r\n\v\f"
URL_SAFE = bytes.maketrans(b"-_", b"+/")
# The media type and its parameters are not used: the file itself says what it is.
HEAD = re.compile(r"\s*+data:[^,]{0,1000};\s*+base64\s*+,", re.IGNORECASE)
ESCAPES = {b"%2B": b"+", b"%2F": b"/", b"%3D": b"=", b"%0A": b"", b"%0D": b"", b"%20": b""}
ESCAPE = re.compile(b"|".join(ESCAPES), re.IGNORECASE)
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
    head = HEAD.match(text)
    try:
        payload = (text[head.end() :] if head else text).encode("ascii")
        if head and b"%" in payload:
            payload = ESCAPE.sub(lambda found: ESCAPES[found[0].upper()], payload)
        digits = payload.translate(URL_SAFE, SPACE).rstrip(b"=")
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(field, text, BOUND, "bad-base64") from error
