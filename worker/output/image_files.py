"""Encodes images as files, which contain the recipe of their image and its digital source type."""

import io

from PIL import Image

from protocol.request.object_keys import OutputFormat
from protocol.request.request import GenerationRequest
from worker.engine.pixels import on_white
from worker.interfaces import Pixels
from worker.output.exif import MAX_JPEG_EXIF, exif_block, spectrogram_exif
from worker.output.metadata import exif_texts, png_texts
from worker.output.xmp import xmp_packet

# zlib's fastest: about a sixth larger than its default in half the time, and with the
# client waiting, time counts for more than bytes.
PNG_COMPRESSION = 1
PREVIEW_QUALITY = 75
WEBP_EFFORT = 2  # of 0..6; beyond this, encoding costs more than the bytes it saves
AVIF_SPEED = 6  # of 0..10; 8 takes half the time and makes files larger by half


def encode(pixels: Pixels, request: GenerationRequest, seed: int) -> bytes:
    """Encode `pixels` (H, W, 3), or 4 with alpha, in the format that `request` asks for.

    The file contains the recipe of the image and its digital source type, unless the request has
    them left out. A JPEG has no alpha: transparency is put on white.
    """
    image = Image.fromarray(pixels)
    if request.output_format is OutputFormat.JPEG:
        image = on_white(image)
    blocks = _exif(request, seed, image.height) | _xmp(request)
    file = io.BytesIO()
    match request.output_format:
        case OutputFormat.PNG:
            text = png_texts(request, seed) if request.metadata else None
            image.save(file, "PNG", compress_level=PNG_COMPRESSION, pnginfo=text, **blocks)
        case OutputFormat.JPEG:
            image.save(file, "JPEG", quality=request.quality, **blocks)
        case OutputFormat.WEBP:
            image.save(file, "WEBP", quality=request.quality, method=WEBP_EFFORT, **blocks)
        case OutputFormat.AVIF:
            # One thread: the bytes must not depend on the number of cores.
            options = {"quality": request.quality, "speed": AVIF_SPEED, "max_threads": 1}
            image.save(file, "AVIF", **options, **blocks)
    return file.getvalue()


def _exif(request: GenerationRequest, seed: int, height: int) -> dict[str, bytes]:
    """Return the Exif block as an argument of `save`: none if it would be empty."""
    has_texts = request.metadata and request.output_format is not OutputFormat.PNG
    texts = exif_texts(request, seed) if has_texts else {}
    limit = MAX_JPEG_EXIF if request.output_format is OutputFormat.JPEG else None
    block = exif_block(spectrogram_exif(request, height), texts, limit)
    return {} if block is None else {"exif": block}


def _xmp(request: GenerationRequest) -> dict[str, bytes]:
    """Return the XMP packet as an argument of `save`; a PNG has it among its texts."""
    if not request.metadata or request.output_format is OutputFormat.PNG:
        return {}
    return {"xmp": xmp_packet(request).encode()}


def encode_preview(pixels: Pixels) -> bytes:
    """Encode a preview (H, W, 3) as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=PREVIEW_QUALITY)
    return file.getvalue()
