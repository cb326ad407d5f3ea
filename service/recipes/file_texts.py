"""The texts in an image file: text chunks of a PNG; comments, Exif tags and XMP of other formats.

Nothing is decoded. All texts together have at most `MAX_TEXT_BYTES`, also those that are
compressed.
"""

import zlib
from collections.abc import Callable, Iterator

from protocol.errors import InvalidRequest
from protocol.recipes.exif_recipe import OUR_NOTE, read_user_comment
from protocol.recipes.names import INFOTEXT_KEY, OUR_KEY
from protocol.recipes.provenance import XMP_KEY
from service.images.exif import EXIF_HEADER, MAKE, MAKER_NOTE, MODEL, USER_COMMENT, ExifBlock
from service.images.image_file import FORMATS, avif_metadata
from service.images.image_sanitizer import (
    COMMENT,
    EXIF,
    JPEG,
    MAX_PARTS,
    PNG,
    PNG_EXIF,
    Part,
    jpeg_segments,
    limited,
    png_chunks,
)

MAX_TEXT_BYTES = 2**21
MAX_KEYWORD = 79  # bytes; the PNG standard's limit
AVIF_BRANDS = (b"avif", b"avis")
TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
WEBP_EXIF, WEBP_XMP = b"EXIF", b"XMP "
JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"  # of a segment with the marker of Exif
# ComfyUI writes its texts of WebP files into these tags, each after its name and a colon.
COMFYUI_TAGS, COMFYUI_NAMES = (MAKE, MODEL), (b"prompt", b"workflow")

Decode = Callable[[bytes], str]


def file_texts(field: str, data: bytes) -> dict[str, str]:
    """Return the texts by name; an Exif comment has the name that a PNG has for the same text.

    Of several with one name, the first counts. Raises `InvalidRequest` for other files than images
    and for texts that are too long.
    """
    texts = _Texts(field)
    match image_format(data):
        case "png":
            _read_png(texts, data)
        case "jpeg":
            _read_jpeg(texts, data)
        case "webp":
            _read_webp(texts, data)
        case "avif":
            exif, xmp = avif_metadata(field, data)
            texts.add_exif(exif)
            if xmp:
                texts.add(XMP_KEY, xmp, _utf8)
        case _:
            bound = f"a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file"
            raise InvalidRequest(field, f"{len(data)} bytes of another kind", bound, "broken-image")
    return texts.found


def image_format(data: bytes) -> str | None:
    """Return "png", "jpeg", "webp" or "avif" by the first bytes of a file, None for others."""
    if data.startswith(PNG):
        return "png"
    if data.startswith(JPEG):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return "avif" if data[4:8] == b"ftyp" and data[8:12] in AVIF_BRANDS else None


class _Texts:
    """The texts found so far, within the bound."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.found: dict[str, str] = {}
        self._left = MAX_TEXT_BYTES

    def add(self, name: str, value: bytes, decode: Decode) -> None:
        """Add a text if it is the first of its name. Raises `InvalidRequest` if it is too long."""
        self._left -= len(name) + len(value)
        if self._left < 0:
            raise self._too_long()
        self.found.setdefault(name, decode(value).replace("\0", ""))

    def add_chunk(self, keyword: bytes, value: bytes, decode: Decode) -> None:
        """Add the text of a PNG chunk, if its keyword is allowed."""
        if 0 < len(keyword) <= MAX_KEYWORD:
            self.add(_latin(keyword), value, decode)

    def add_exif(self, exif: bytes) -> None:
        """Add the texts of an Exif block."""
        if (block := ExifBlock.of(exif)) is None:
            return
        if comment := block.exif_value(USER_COMMENT):
            self.add(INFOTEXT_KEY, comment, read_user_comment)
        if (ours := block.exif_value(MAKER_NOTE)).startswith(OUR_NOTE):
            self.add(OUR_KEY, ours.removeprefix(OUR_NOTE), _utf8)
        for tag in COMFYUI_TAGS:
            name, _, text = block.value(tag).partition(b":")
            if name in COMFYUI_NAMES:
                self.add(_latin(name), text, _utf8)

    def inflate(self, data: bytes) -> bytes:
        """Return a text decompressed, empty if it is broken."""
        try:
            text = zlib.decompressobj().decompress(data, self._left + 1)
        except zlib.error:
            return b""
        if len(text) > self._left:
            raise self._too_long()
        return text

    def _too_long(self) -> InvalidRequest:
        shown = f"a file with more than {MAX_TEXT_BYTES} bytes of text"
        bound = f"a file with at most {MAX_TEXT_BYTES} bytes of text"
        return InvalidRequest(self.field, shown, bound, "image-too-complex")


def _read_png(texts: _Texts, data: bytes) -> None:
    for part in limited(texts.field, png_chunks(data)):
        if part.kind in TEXT_CHUNKS:
            keyword, _, rest = data[part.start + 8 : part.end - 4].partition(b"\0")
            _add_text(texts, part.kind, keyword, rest)
        elif part.kind == PNG_EXIF:
            texts.add_exif(data[part.start + 8 : part.end - 4])


def _add_text(texts: _Texts, kind: bytes, keyword: bytes, rest: bytes) -> None:
    match kind:
        case b"tEXt":
            texts.add_chunk(keyword, rest, _latin)
        case b"zTXt":
            texts.add_chunk(keyword, texts.inflate(rest[1:]), _latin)
        case _:
            _add_international_text(texts, keyword, rest)


def _add_international_text(texts: _Texts, keyword: bytes, rest: bytes) -> None:
    """Add a text in UTF-8, after a flag, a method, a language and a translated keyword."""
    _, _, after_language = rest[2:].partition(b"\0")
    _, _, text = after_language.partition(b"\0")
    is_compressed = rest[:1] == b"\1"
    texts.add_chunk(keyword, texts.inflate(text) if is_compressed else text, _utf8)


def _read_jpeg(texts: _Texts, data: bytes) -> None:
    for part in limited(texts.field, jpeg_segments(data)):
        content = data[part.start + 4 : part.end]
        if part.kind[0] == EXIF and content.startswith(EXIF_HEADER):
            texts.add_exif(content)
        elif part.kind[0] == EXIF and content.startswith(JPEG_XMP):
            texts.add(XMP_KEY, content.removeprefix(JPEG_XMP), _utf8)
        elif part.kind[0] == COMMENT:
            texts.add("comment", content, _utf8)


def _read_webp(texts: _Texts, data: bytes) -> None:
    for part in webp_chunks(data):
        if part.kind == WEBP_EXIF:
            texts.add_exif(data[part.start + 8 : part.end])
        elif part.kind == WEBP_XMP:
            texts.add(XMP_KEY, data[part.start + 8 : part.end], _utf8)


def webp_chunks(data: bytes) -> Iterator[Part]:
    """Yield the chunks: four bytes of type, four of length, the data, filled up to be even."""
    start = 12
    for _ in range(MAX_PARTS):
        if start + 8 > len(data):
            return
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        yield Part(data[start : start + 4], start, start + 8 + length)
        start += 8 + length + length % 2


def _latin(value: bytes) -> str:
    return value.decode("latin-1")


def _utf8(value: bytes) -> str:
    return value.decode("utf-8", "replace")
