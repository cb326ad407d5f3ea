"""Previews of unfinished images as image files of the size and format that were asked for."""

import io

from PIL import Image

from protocol.request.object_keys import OutputFormat
from service.images.image_file import Size


def enlarged_preview(jpeg: bytes, size: Size, output_format: OutputFormat) -> bytes:
    """Return one of our workers' previews in `size` and `output_format`."""
    image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(buffer, output_format.value)
    return buffer.getvalue()
