"""Nodes that make masks of images, and change them."""

from dataclasses import replace

from protocol.request.fields import MAX_MASK_PIXELS
from service.dialects.comfyui.graph.images import loaded
from service.dialects.comfyui.graph.node_class import (
    Here,
    Listing,
    NodeClass,
    Outputs,
    choice,
    flag,
    integer,
    link,
    listed,
)
from service.dialects.comfyui.graph.values import Image, ImageRef, Mask

CHANNELS = ("alpha", "red", "green", "blue")


def _load(here: Here, image: str, channel: str) -> Outputs:
    return (Mask(loaded(here, image), channel, origin=here.origin("image")),)


def _of_image(here: Here, image: Image, channel: str) -> Outputs:
    """Take a channel of an image, whose alpha LoadImage has taken away: it has none."""
    if not image.plain or not isinstance(image.source, ImageRef):
        raise here.refuse("image", "must come from LoadImage: nothing is made in between here")
    if channel == "alpha":
        raise here.refuse("channel", "red, green or blue: LoadImage has the alpha as its MASK")
    return (Mask(image.source, channel, origin=here.origin("image")),)


def _invert(here: Here, mask: Mask) -> Outputs:
    return (_of_file(here, mask).inverted(),)


def _grow(here: Here, mask: Mask, expand: int, tapered_corners: bool) -> Outputs:
    """Grow a mask by a square, or shrink it; ComfyUI's tapered corners are a diamond."""
    mask = _of_file(here, mask)
    grow = mask.grow + expand
    if expand and tapered_corners:
        raise here.refuse("tapered_corners", "false only: masks are grown by squares here")
    if mask.grow * expand < 0:
        raise here.refuse("expand", "a mask is either grown or shrunk here")
    if abs(grow) > MAX_MASK_PIXELS:
        bound = f"between {-MAX_MASK_PIXELS} and {MAX_MASK_PIXELS} in all"
        raise here.refuse("expand", bound)
    return (replace(mask, grow=grow, origin=here.origin("expand")),)


def _of_file(here: Here, mask: Mask) -> Mask:
    if isinstance(mask.source, Image):
        raise here.refuse("mask", "the mask of borders is used as it is here")
    return mask


MASKS = (
    NodeClass(
        "LoadImageMask",
        "mask",
        {"image": listed(Listing.IMAGES, image_upload=True), "channel": choice(*CHANNELS)},
        ("MASK",),
        _load,
        "Load Image (as Mask)",
    ),
    NodeClass(
        "ImageToMask",
        "mask",
        {"image": link("IMAGE"), "channel": choice("red", "green", "blue", "alpha")},
        ("MASK",),
        _of_image,
        "Convert Image to Mask",
    ),
    NodeClass("InvertMask", "mask", {"mask": link("MASK")}, ("MASK",), _invert, "InvertMask"),
    NodeClass(
        "GrowMask",
        "mask",
        {
            "mask": link("MASK"),
            "expand": integer(0, -16384, 16384),
            "tapered_corners": flag(True),
        },
        ("MASK",),
        _grow,
        "GrowMask",
    ),
)
