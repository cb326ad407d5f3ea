"""Preprocessors of control images that change each pixel by itself."""

from collections.abc import Callable

from PIL import Image, ImageChops

Preprocess = Callable[[Image.Image], Image.Image]  # from RGB to RGB

WHITE = 255


def inverted(image: Image.Image) -> Image.Image:
    """Return the negative of an image: dark lines on white become light lines on black."""
    return ImageChops.invert(image)


def binarized(image: Image.Image, threshold: int) -> Image.Image:
    """Return an image that is white where all channels are above `threshold`, else black."""
    red, green, blue = image.split()
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    white = darkest.point([WHITE * (value > threshold) for value in range(WHITE + 1)])
    return Image.merge("RGB", (white, white, white))
