"""Pastes a generated image into the client's: resized to its place and blended by a mask."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from protocol.request.inpainting import Paste, PixelBox
from protocol.request.outpainting import Outpainting
from protocol.request.request import GenerationRequest
from worker.interfaces import RGB, Pixels

SMOOTH = Image.Resampling.LANCZOS


@dataclass(frozen=True)
class Pasted:
    """The result (H, W, 3 or more), and its alpha (H, W) if the client's image has one."""

    pixels: Pixels
    alpha: NDArray[np.uint8] | None = None


def paste(pixels: Pixels, place: Paste | None, inputs: Mapping[str, bytes]) -> Pasted:
    """Return the result made of generated `pixels`; `inputs` are the PNGs of `place` by key.

    Where the mask is 0 the result has exactly the client's pixels, where it is 255 the generated
    ones. Channels after the colours are 0 outside the box.
    """
    if place is None:
        return Pasted(pixels)
    colours = _resized(Image.fromarray(pixels[..., :RGB]), place)
    whole, alpha = Image.new("RGB", (place.width, place.height)), None
    mask = Image.new("L", whole.size, 255)
    if place.image_key is not None:
        whole, alpha = _image(inputs[place.image_key])
    if place.mask_key is not None:
        mask = _opened(inputs[place.mask_key], "L")
    whole.paste(colours, place.box.corners, mask.crop(place.box.corners))
    result = np.asarray(whole)
    if pixels.shape[-1] > RGB:
        result = np.concatenate([result, _depth(pixels, place)], axis=-1)
    return Pasted(result, alpha)


def pasted(pixels: Pixels, request: GenerationRequest, inputs: Mapping[str, bytes]) -> Pasted:
    """Return the result of a request made of generated `pixels`."""
    if request.outpainting is not None and request.image_key is not None:
        return _with_original(pixels, request.outpainting, inputs[request.image_key])
    return paste(pixels, request.paste, inputs)


def _with_original(pixels: Pixels, asked: Outpainting, png: bytes) -> Pasted:
    """Return an outpainted image with the alpha of the client's, if that has one.

    Its colours under transparent pixels, which the model has seen on white, come back too. The
    blended edge and the border are opaque.
    """
    colours, alpha = _image(png)
    if alpha is None:
        return Pasted(pixels)
    inside, place = _slices(asked.kept, asked.image), _slices(asked.kept, asked.result)
    whole, opacity = pixels.copy(), np.full(pixels.shape[:2], 255, np.uint8)
    whole[place] = np.asarray(colours)[inside]
    opacity[place] = alpha[inside]
    return Pasted(whole, opacity)


def _slices(box: PixelBox, outer: PixelBox) -> tuple[slice, slice]:
    """Return the rows and columns of a box in an image that has the place of another one."""
    left, top = box.left - outer.left, box.top - outer.top
    return slice(top, top + box.height), slice(left, left + box.width)


def _resized(image: Image.Image, place: Paste) -> Image.Image:
    """Return the used part of a generated image in the size of its box."""
    # Cut out first: the filter must not mix in what is next to it.
    return image.crop(place.used.corners).resize((place.box.width, place.box.height), SMOOTH)


def _image(png: bytes) -> tuple[Image.Image, NDArray[np.uint8] | None]:
    """Return the colours of an RGB or RGBA PNG, and its alpha if it has one."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        alpha = np.asarray(image.getchannel("A")) if image.mode == "RGBA" else None
        return image.convert("RGB"), alpha


def _opened(png: bytes, mode: str) -> Image.Image:
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return image.convert(mode)


def _depth(pixels: Pixels, place: Paste) -> NDArray[np.uint8]:
    """Return the high and low byte of the depth (H, W, 2) of the result."""
    values = pixels[..., RGB].astype(np.float32) * 256 + pixels[..., RGB + 1]
    resized = np.asarray(_resized(Image.fromarray(values), place)).round().clip(0, 65535)
    depth = np.zeros((place.height, place.width), np.uint16)
    left, top, right, bottom = place.box.corners
    depth[top:bottom, left:right] = resized
    return np.stack([depth >> 8, depth & 255], axis=-1).astype(np.uint8)
