"""The input images of a request, prepared for its worker."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.errors import InvalidRequest
from protocol.queue.job import RequestWarning, Warnings
from protocol.request.borders import resolve_outpainting
from protocol.request.fields import MAX_SIDE
from protocol.request.inpainting import Paste, ResizeMode
from protocol.request.model_card import ModelCard
from protocol.request.sizes import (
    RESIZED,
    check_mask_size,
    padded_size,
    target_size,
    upscaled_size,
)
from protocol.request.tasks import Task
from protocol.request.tiles import tiled_size
from protocol.request.upscaling import size_by_upscaler
from service.images.image_file import ImageFile, Size
from service.images.inpainting import InpaintingOptions, Region, check_sides
from service.images.input_images import InputImages
from service.images.resize_modes import Placement, placement
from service.images.uploaded_images import CanonicalImage
from service.schemas.requests import TaskRequest


@dataclass(frozen=True)
class PreparedImages:
    """Image, mask and control images in the size that is generated, and what is pasted.

    `region`: the part of the image that is generated, if it is not the whole in its own size.
    `depth_map`: of the image, resized and cut with it.
    """

    image: CanonicalImage | None = None
    mask: CanonicalImage | None = None
    paste: Paste | None = None
    pasted: tuple[CanonicalImage, ...] = ()
    region: Region | None = None
    warnings: Warnings = ()
    depth_map: CanonicalImage | None = None

    @property
    def files(self) -> Sequence[CanonicalImage]:
        own = (self.image, self.mask, self.depth_map)
        return [*(file for file in own if file), *self.pasted]


def prepare_images(
    images: InputImages, task: Task, params: TaskRequest, card: ModelCard
) -> PreparedImages:
    """Return image and mask of a request. Every size is checked before a pixel is decoded.

    An image to upscale, to outpaint or to generate in tiles keeps its size.
    Raises `InvalidRequest` and `DecodingBusy`.
    """
    image_file, mask_file = getattr(params, "image", None), getattr(params, "mask", None)
    if image_file is None:
        return PreparedImages()
    if task is Task.SEMANTIC:
        labels = images.open_label_map("image", image_file)
        target = target_size((params.width, params.height), card, labels.size)
        map_ = images.label_map(labels, target, card.classes)
        return PreparedImages(map_, warnings=labels.warnings)
    image = images.open("image", image_file)
    if task is Task.UPSCALE:
        if params.upscaler is None:
            upscaled_size(card, image.size)
        else:
            size_by_upscaler(params, card, image.size)
        return PreparedImages(images.image(image, image.size), warnings=image.warnings)
    if task is Task.IMG2IMG and params.tile_size is not None:
        tiled_size(params, card, image.size)
        own_size = Placement(image.size, image.size)
        return _with_depth(images, image, own_size, params, warnings=image.warnings)
    if task is Task.OUTPAINT:
        check_sides(image)
        resolve_outpainting(params, card, image.size)
        return PreparedImages(images.with_alpha(image), warnings=image.warnings)
    if not task.takes_mask:
        return _image_to_image(images, image, params, card)
    mask = None if mask_file is None else images.open("mask", mask_file)
    return _inpainting(images, image, mask, params, card)


def _image_to_image(
    images: InputImages, image: ImageFile, params: TaskRequest, card: ModelCard
) -> PreparedImages:
    place = _whole(image.size, params, card)
    paste = region = None
    if _is_padded(place, params):
        paste = Paste(width=image.size[0], height=image.size[1], used=place.used, box=place.used)
        region = Region((0, 0, *image.size), place)
    warnings = image.warnings + _stretched(image.size, place.target, params, card)
    return _with_depth(images, image, place, params, paste, region, warnings)


def _with_depth(
    images: InputImages,
    image: ImageFile,
    place: Placement,
    params: TaskRequest,
    paste: Paste | None = None,
    region: Region | None = None,
    warnings: Warnings = (),
) -> PreparedImages:
    """Return an image in its place, with its depth map if there is one."""
    data, depth_map = getattr(params, "depth_map", None), None
    if data is not None:
        file = images.open("depth_map", data)
        depth_map, warnings = images.placed(file, place), warnings + file.warnings
    return PreparedImages(
        images.placed(image, place),
        paste=paste,
        region=region,
        warnings=warnings,
        depth_map=depth_map,
    )


def _inpainting(
    images: InputImages,
    image: ImageFile,
    mask: ImageFile | None,
    params: TaskRequest,
    card: ModelCard,
) -> PreparedImages:
    options = InpaintingOptions.of(params)
    _check_mask(image, mask, options)
    if options.masked_only:
        check_sides(image)
        place = Placement(image.size, image.size)
        generated = target_size((params.width, params.height), card)
        warnings = image.warnings
    else:
        place = _whole(image.size, params, card, _instead(image, params))
        generated = place.target
        warnings = image.warnings + _stretched(image.size, generated, params, card)
    padded = not options.masked_only and _is_padded(place, params)
    if mask is not None and not (options.blends or image.is_transparent or padded):
        small, small_mask, remarks = images.masked_image(image, mask, place, options)
        return PreparedImages(small, small_mask, warnings=warnings + mask.warnings + remarks)
    if padded:
        place = Placement(image.size, image.size)
    found, remarks = images.inpainting(image, mask, place, options, generated)
    return PreparedImages(
        found.image,
        found.mask,
        found.paste,
        found.pasted,
        found.region,
        warnings + (mask.warnings if mask else ()) + remarks,
    )


def _check_mask(image: ImageFile, mask: ImageFile | None, options: InpaintingOptions) -> None:
    if options.from_alpha and mask is not None:
        raise InvalidRequest("mask", "given", "absent, as mask_source is alpha", "not-together")
    if options.from_alpha and not image.is_transparent:
        bound = "an image with transparent pixels, as mask_source is alpha"
        raise InvalidRequest("image", image.text, bound, "no-transparency")
    if not options.from_alpha and mask is None:
        bound = "given for inpaint, unless mask_source is alpha"
        raise InvalidRequest("mask", None, bound, "missing-field")
    if mask is not None:
        check_mask_size(image.size, mask.size)


def _instead(image: ImageFile, params: TaskRequest) -> str:
    """Return the ways to inpaint an image that is out of the model's bounds."""
    masked = params.resize_mode is None and max(image.size) <= MAX_SIDE
    return f"with inpaint_area masked, or {RESIZED}" if masked else RESIZED


def _whole(
    image_size: Size, params: TaskRequest, card: ModelCard, instead: str = RESIZED
) -> Placement:
    """Return the placement of the whole image in what is generated.

    Without width and height it keeps its size, and is padded to a multiple of the model's.
    Raises `InvalidRequest`, with the other ways to send an image that is out of bounds, `instead`.
    """
    size = (params.width, params.height)
    padded = padded_size(card, image_size) if size == (None, None) else None
    if padded is not None:
        return Placement(image_size, padded)
    target = target_size(size, card, image_size, instead)
    return placement(params.resize_mode or ResizeMode.STRETCH, image_size, target)


def _is_padded(place: Placement, params: TaskRequest) -> bool:
    """Return True if an image keeps its size in a larger one."""
    return (params.width, params.height) == (None, None) and not place.covers


def _stretched(image: Size, target: Size, params: TaskRequest, card: ModelCard) -> Warnings:
    """Return a warning if the aspect changes by more than rounding, and nobody asked for it."""
    if params.resize_mode is not None or None in (params.width, params.height):
        return ()
    distance = abs(image[0] * target[1] - image[1] * target[0])
    if distance < card.size_multiple * max(image):
        return ()
    detail = (
        f"The image of {image[0]}x{image[1]} is stretched to {target[0]}x{target[1]}. "
        "resize_mode crop or fill keeps its aspect; resize_mode stretch is this without a warning."
    )
    return (RequestWarning(code="image-stretched", field="image", detail=detail),)
