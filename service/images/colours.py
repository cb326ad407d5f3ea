"""Conversion of decoded pixels, strip by strip: to 8 bits, to sRGB, onto a background."""

import io

from PIL import Image, ImageCms

from service.images.pixels import Convert

WHITE = (255, 255, 255, 255)
BLACK = (0, 0, 0, 255)
MAX_PROFILE_BYTES = 2**20  # printer profiles have half of that
SRGB = ImageCms.createProfile("sRGB")
# Image mode -> the mode that its ICC profile is for, where the two differ.
PROFILE_MODES = {"1": "L", "P": "RGB", "PA": "RGBA", "LA": "RGBA", "I;16": "L"}


def to_rgb(mode: str, is_transparent: bool, icc_profile: bytes | None) -> Convert:
    """Return a function from pixels of `mode` to RGB, transparency on white.

    Colours are converted to sRGB by the ICC profile; an invalid profile is ignored.
    """
    to_srgb = _to_srgb(mode, is_transparent, icc_profile)

    def convert(pixels: Image.Image) -> Image.Image:
        return on_white(to_srgb(to_eight_bits(pixels)))

    return convert


def to_rgba(mode: str, is_transparent: bool, icc_profile: bytes | None) -> Convert:
    """Return a function from pixels of `mode` to RGBA in sRGB; see `to_rgb`."""
    to_srgb = _to_srgb(mode, is_transparent, icc_profile)
    return lambda pixels: to_srgb(to_eight_bits(pixels)).convert("RGBA")


def on_white(image: Image.Image) -> Image.Image:
    """Return `image` in RGB, with transparency on white."""
    return on_background(image, WHITE).convert("RGB")


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a 16-bit greyscale image to 8 bits; pillow's own conversion would clip its values."""
    if not image.mode.startswith("I"):
        return image
    scaled = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    transparent = image.info.get("transparency")
    scaled.info = {} if transparent is None else {"transparency": transparent // 256}
    return scaled


def on_background(image: Image.Image, colour: tuple[int, int, int, int]) -> Image.Image:
    """Return `image` on a background of one colour where it is transparent."""
    if not image.has_transparency_data:
        return image
    over = image if image.mode == "RGBA" else image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, colour), over)


def _to_srgb(mode: str, is_transparent: bool, icc_profile: bytes | None) -> Convert:
    if not isinstance(icc_profile, bytes) or not 0 < len(icc_profile) <= MAX_PROFILE_BYTES:
        return lambda image: image
    before = PROFILE_MODES.get(mode, mode)
    if is_transparent and before == "RGB":
        before = "RGBA"
    after = "RGBA" if before == "RGBA" else "RGB"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        transform = ImageCms.buildTransform(profile, SRGB, before, after)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return lambda image: image
    return lambda image: ImageCms.applyTransform(image.convert(before), transform) or image
