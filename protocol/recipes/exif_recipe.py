"""The values of the Exif tags that hold a recipe: as bytes, which each program packs into a block.

AUTOMATIC1111 writes its infotext with `piexif.helper.UserComment.dump(…, encoding="unicode")`.
"""

USER_COMMENT, MAKER_NOTE = "UserComment", "MakerNote"
_UNICODE = b"UNICODE\0"
_ASCII = b"ASCII\0\0\0"
_CODE = 8  # bytes of a character code
OUR_NOTE = b"darkroom\0"  # begins a MakerNote of ours, before the request as JSON


def write_user_comment(infotext: str) -> bytes:
    """Return an infotext as the value of a UserComment."""
    return _UNICODE + infotext.encode("utf-16-be", "replace")


def read_user_comment(value: bytes) -> str:
    """Return the text of a UserComment. Never raises."""
    code, text = value[:_CODE], value[_CODE:]
    if code == _UNICODE:
        return text.decode(_byte_order(text), "replace")
    if code in (_ASCII, bytes(_CODE)):
        return text.decode("utf-8", "replace")
    return value.decode("utf-8", "replace")


def write_maker_note(request: str) -> bytes:
    """Return a request as JSON as the value of a MakerNote."""
    return OUR_NOTE + request.encode("utf-8", "replace")


def _byte_order(text: bytes) -> str:
    """Return the encoding of UTF-16 text with some ASCII, whose high bytes are 0."""
    return "utf-16-be" if text[0::2].count(0) >= text[1::2].count(0) else "utf-16-le"
