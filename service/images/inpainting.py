"""Prepares the images of inpainting: what the model gets, and what is pasted into the result.

Names: the canvas is the result before anything is generated, the client's image or that resized to
the requested size. The region is its part that is generated.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageOps

from protocol.errors import InvalidRequest
from protocol.queue.job import RequestWarning, Warnings
from protocol.request.fields import MAX_SIDE
from protocol.request.generation_params import GenerationParams
from protocol.request.inpainting import (
    DEFAULT_MASK_PADDING,
    InpaintArea,
    MaskMode,
    MaskSource,
    Paste,
    PixelBox,
    ResizeMode,
)
from service.images.colours import on_white
from service.images.image_file import ImageFile, Size
from service.images.inpaint_area import Corners, inpaint_area
from service.images.mask_shaping import blur_mask, shape_mask
from service.images.masks import marked_pixels, resize_mask
from service.images.resize_modes import Placement, place, placement
from service.images.uploaded_images import SMOOTH, CanonicalImage, canonical

EMPTY = "No pixel is marked after the mask was changed as requested, so the image comes back."
# Remarks on a mask that do not apply if it is inverted, or if all its levels count.
NOT_IF_INVERTED = frozenset({"mask-empty", "mask-transparent", "mask-inverted"})
NOT_IF_SOFT = frozenset({"mask-empty"})


@dataclass(frozen=True)
class InpaintingOptions:
    """The options of a request, with their defaults."""

    blur: int
    grow: int
    invert: bool
    soft: bool
    from_alpha: bool
    masked_only: bool
    padding: int

    @classmethod
    def of(cls, params: GenerationParams) -> "InpaintingOptions":
        padding = params.mask_padding
        return cls(
            blur=params.mask_blur or 0,
            grow=params.mask_grow or 0,
            invert=bool(params.mask_invert),
            soft=params.mask_mode is MaskMode.SOFT,
            from_alpha=params.mask_source is MaskSource.ALPHA,
            masked_only=params.inpaint_area is InpaintArea.MASKED,
            padding=DEFAULT_MASK_PADDING if padding is None else padding,
        )

    @property
    def shapes(self) -> bool:
        """Return True if the mask itself is changed before it is used."""
        return self.invert or self.grow != 0

    @property
    def blends(self) -> bool:
        """Return True if the result is blended from the image and what was generated."""
        return self.blur > 0 or self.soft or self.from_alpha or self.masked_only

    def shape(self, mask: Image.Image) -> Image.Image:
        """Return the mask changed, but not blurred."""
        return shape_mask(mask, hard=not self.soft, invert=self.invert, grow=self.grow)

    def remarks(self, of_file: Warnings) -> Iterator[RequestWarning]:
        """Yield those of the remarks on a mask file that apply with these options."""
        dropped = (NOT_IF_INVERTED if self.invert else frozenset()) | (
            NOT_IF_SOFT if self.soft else frozenset()
        )
        return (warning for warning in of_file if warning.code not in dropped)


@dataclass(frozen=True)
class Region:
    """A part of the canvas and its placement in the image that the model gets."""

    corners: Corners
    placement: Placement

    def cut(self, image: Image.Image) -> Image.Image:
        """Return the region of an image of the canvas' size, in RGB or L, as the model gets it."""
        whole = self.corners == (0, 0, *image.size)
        part = image if whole else image.crop(self.corners)
        if part.mode == "RGBA":
            part = on_white(part)
        return place(part.resize(self.placement.scaled, SMOOTH), self.placement)

    def cut_mask(self, mask: Image.Image) -> Image.Image:
        """Return the region of a hard mask, in which no stroke is lost."""
        return place(resize_mask(mask.crop(self.corners), self.placement.scaled), self.placement)


@dataclass(frozen=True)
class Inpainting:
    """The images of a request: for the model, and for the paste."""

    image: CanonicalImage
    mask: CanonicalImage
    region: Region
    paste: Paste
    pasted: tuple[CanonicalImage, ...]


@dataclass(frozen=True)
class ShapedMask:
    """A mask changed as requested, and the same blurred."""

    sharp: Image.Image
    blurred: Image.Image

    @classmethod
    def of(cls, mask: Image.Image, options: InpaintingOptions) -> "ShapedMask":
        sharp = options.shape(mask)
        return cls(sharp, blur_mask(sharp, options.blur))

    def placed(self, where: Placement, options: InpaintingOptions) -> "ShapedMask":
        """Return the masks resized and placed as their image; hard ones stay hard."""
        if where.scaled == where.target == self.sharp.size:
            return self
        sharp = place(resize_mask(self.sharp, where.scaled), where)
        if not options.soft:
            sharp = marked_pixels(sharp)
        if not options.blur:
            return ShapedMask(sharp, sharp)
        return ShapedMask(sharp, place(self.blurred.resize(where.scaled, SMOOTH), where))


def compose(
    canvas: Image.Image, mask: ShapedMask, options: InpaintingOptions, generated: Size
) -> Inpainting:
    """Return what the model generates in size `generated`, and how it is pasted.

    `canvas` is RGB or RGBA, `mask` has its size.
    """
    blurred = mask.blurred
    region = _region(canvas.size, blurred, options, generated)
    image = region.cut(canvas)
    model_mask = region.cut(blurred) if options.soft else region.cut_mask(mask.sharp)
    overlay = blurred if options.masked_only else _doubled(blurred)
    if options.from_alpha:
        marked = mask.sharp.point(lambda level: 255 if level else 0)
        # There, an image has as little to blend as it has alpha.
        overlay = ImageChops.lighter(overlay, ImageChops.darker(alpha_mask(canvas), marked))
        canvas = _covered(canvas, ImageChops.lighter(overlay, marked))
    original = canonical(canvas)
    overlay_file = canonical(overlay)
    left, top, right, bottom = region.corners
    paste = Paste(
        width=canvas.width,
        height=canvas.height,
        used=region.placement.used,
        box=PixelBox(left=left, top=top, width=right - left, height=bottom - top),
        image_key=original.record.key,
        mask_key=overlay_file.record.key,
    )
    pasted = (original, overlay_file)
    return Inpainting(canonical(image), canonical(model_mask), region, paste, pasted)


def _region(canvas: Size, mask: Image.Image, options: InpaintingOptions, generated: Size) -> Region:
    whole = (0, 0, *canvas)
    marked = mask.getbbox()
    if not options.masked_only:
        return Region(whole, Placement(canvas, generated))
    corners = inpaint_area(marked, options.padding, generated, canvas) if marked else whole
    size = (corners[2] - corners[0], corners[3] - corners[1])
    return Region(corners, placement(ResizeMode.FILL, size, generated))


def _doubled(mask: Image.Image) -> Image.Image:
    """Return the mask by which a whole image is blended, as in AUTOMATIC1111: everything from half
    a mark on is replaced."""
    return mask.point(lambda value: min(2 * value, 255))


def alpha_mask(canvas: Image.Image) -> Image.Image:
    """Return the mask of an image's transparent pixels."""
    return ImageOps.invert(canvas.getchannel("A"))


def _covered(canvas: Image.Image, opaque: Image.Image) -> Image.Image:
    """Return an RGBA image with at least the alpha `opaque`, in RGB if that is 255 everywhere."""
    alpha = ImageChops.lighter(canvas.getchannel("A"), opaque)
    covered = canvas.convert("RGB")
    if any(alpha.histogram()[:255]):
        covered.putalpha(alpha)
    return covered


def empty_mask(mask: Image.Image, field: str, warnings: Warnings) -> Warnings:
    """Return the warning that a changed mask marks nothing, unless there is one."""
    if mask.getbbox() or any(warning.code == "mask-empty" for warning in warnings):
        return ()
    return (RequestWarning(code="mask-empty", field=field, detail=EMPTY),)


def check_sides(image: ImageFile) -> None:
    """Raise `InvalidRequest` for an image that is longer than any result may be."""
    if max(image.size) > MAX_SIDE:
        shown = f"{image.size[0]}x{image.size[1]}"
        bound = f"of sides up to {MAX_SIDE}, or sent with width and height"
        raise InvalidRequest("image", shown, bound, "image-size")
