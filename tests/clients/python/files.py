"""Images of actions, which are base64 in lines of JSON."""

import base64
import io

from PIL import Image


def as_image(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def as_base64(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
