"""Uploaded image files whose header is read: their format, size and what decoding them takes.

No pixel is decoded here.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from protocol.errors import InvalidRequest
from protocol.queue.job import RequestWarning, Warnings
from service.images.image_sanitizer import orientation, sanitize_image

try:
    import pi_heif
except ImportError:  # the extra `heic` is not installed
    pi_heif = None

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
HEIC = "HEIF"
NAMES = "PNG, JPEG, WebP, AVIF or HEIC" if pi_heif else "PNG, JPEG, WebP or AVIF"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
TRANSPOSES = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDES_CHANGED = frozenset({5, 6, 7, 8})
PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}  # of pillow's images; of all others 4
WEBP_BYTES = 13  # a pixel, in addition to pillow's image: two canvases and a copy

Size = tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class ImageFile:
    """An uploaded file, sanitized, and what its header says.

    `stored`: the size before the EXIF orientation is applied. `decoder_bytes`: what a decoder
    takes besides the decoded image.
    """

    field: str
    data: bytes
    format: str
    mode: str
    stored: Size
    orientation: int
    is_transparent: bool
    icc_profile: bytes | None
    is_animated: bool
    decoder_bytes: int

    @property
    def size(self) -> Size:
        """The size of the upright image."""
        return self.in_file(self.stored)

    def in_file(self, size: Size) -> Size:
        """Return an upright size as it is in the file, or the other way round."""
        return size[::-1] if self.orientation in SIDES_CHANGED else size

    @property
    def text(self) -> str:
        """The size and format for error messages."""
        width, height = self.size
        return f"a {self.format} image of {width}x{height}"

    @property
    def pixel_bytes(self) -> int:
        """Return the bytes that the decoded image takes for each pixel."""
        return PIXEL_BYTES.get(self.mode, 4)

    @property
    def warnings(self) -> Warnings:
        if not self.is_animated:
            return ()
        detail = "The file is an animation, of which the first frame is used."
        return (RequestWarning(code="image-animated", field=self.field, detail=detail),)


def open_image(
    field: str, data: bytes, max_pixels: int, formats: tuple[str, ...] = FORMATS
) -> ImageFile:
    """Return an uploaded file with its header read.

    Raises `InvalidRequest`, also for an image of more than `max_pixels`.
    """
    with as_invalid_request(field, data):
        if formats == FORMATS and is_heic(data):
            return _open_heic(field, data, max_pixels)
        if webp := _webp_size(data):
            _check_size(field, webp, max_pixels)  # opening it allocates all its pixels
        file = sanitize_image(field, data)
        image = Image.open(io.BytesIO(file.data), formats=formats)
        _check_size(field, image.size, max_pixels)
        return ImageFile(
            field,
            file.data,
            format=image.format or "",
            mode=image.mode,
            stored=image.size,
            orientation=orientation(file.exif or image.info.get("exif", b"")),
            is_transparent=image.has_transparency_data,
            icc_profile=image.info.get("icc_profile"),
            is_animated=file.is_animated or getattr(image, "is_animated", False),
            decoder_bytes=file.coefficient_bytes + _decoder_bytes(image, file.data),
        )


def avif_metadata(field: str, data: bytes) -> tuple[bytes, bytes]:
    """Return the Exif block and the XMP packet of an AVIF file, which may be empty.

    Raises `InvalidRequest`.
    """
    with as_invalid_request(field, data):
        info = Image.open(io.BytesIO(data), formats=("AVIF",)).info
        return info.get("exif", b""), info.get("xmp", b"")


def is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS


@contextmanager
def as_invalid_request(field: str, data: bytes) -> Iterator[None]:
    """Convert every exception of a decoder inside the block to `InvalidRequest`."""
    try:
        yield
    except InvalidRequest:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        bound = "an image of fewer pixels"
        raise InvalidRequest(field, "far too large", bound, "image-too-large") from error
    except Exception as error:
        # Decoders raise many exception types for invalid files; clients get the same error.
        kind = "a HEIC file" if is_heic(data) else f"{len(data)} bytes"
        shown = f"{kind} that cannot be decoded"
        raise InvalidRequest(field, shown, f"a {NAMES} file", "broken-image") from error


def _open_heic(field: str, data: bytes, max_pixels: int) -> ImageFile:
    image = pi_heif.open_heif(data, convert_hdr_to_8bit=True)
    primary = image[image.primary_index]
    _check_size(field, primary.size, max_pixels)
    channels = len(primary.mode)
    samples = (3 if primary.info.get("chroma") == 444 else 1.5) + (channels in (2, 4)) + channels
    depth = 2 if primary.info["bit_depth"] > 8 else 1
    return ImageFile(
        field,
        data,
        format=HEIC,
        mode=primary.mode,
        stored=primary.size,
        orientation=1,  # the decoder has turned it
        is_transparent=channels in (2, 4),
        icc_profile=primary.info.get("icc_profile"),
        is_animated=False,
        decoder_bytes=int(primary.size[0] * primary.size[1] * (samples * depth + 0.5)),
    )


def _check_size(field: str, size: Size, max_pixels: int) -> None:
    width, height = size
    if min(size) < 1:  # some decoders read such headers without an error
        bound = "an image with pixels"
        raise InvalidRequest(field, f"{width}x{height}", bound, "broken-image")
    if width * height > max_pixels:
        bound = f"an image of at most {max_pixels} pixels"
        raise InvalidRequest(field, f"{width}x{height}", bound, "image-too-large")


def _decoder_bytes(image: Image.Image, data: bytes) -> int:
    pixels = image.width * image.height
    match image.format:
        case "WEBP":
            return WEBP_BYTES * pixels
        case "AVIF":
            # In addition to the planes: the pixels in two forms, and what the decoder works with.
            return int(pixels * (_av1_bytes(data) + len(image.getbands()) + 5.6))
        case _:
            return 0


def _av1_bytes(data: bytes) -> float:
    """Return the bytes of a pixel in the planes of an AV1 image, at most."""
    largest, start = 0.0, data.find(b"av1C")
    while start >= 0 and start + 7 <= len(data):
        flags = data[start + 6]  # AV1-ISOBMFF, section 2.3.3
        depth = 2 if flags & 0x40 else 1
        halvings = (flags >> 3 & 1) + (flags >> 2 & 1)
        largest = max(largest, depth * (1 + (0 if flags & 0x10 else 2 / 2**halvings)))
        start = data.find(b"av1C", start + 4)
    return largest or 6.0


def _webp_size(data: bytes) -> Size | None:
    """Return the size in the header of a WebP file, None for other files."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8X":
            width, height = (int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
            return width + 1, height + 1
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = (int.from_bytes(data[i : i + 2], "little") for i in (26, 28))
            return width & 0x3FFF, height & 0x3FFF
    return None
