"""The input images of a request: opened, decoded in limited memory, encoded for workers."""

from dataclasses import dataclass

from PIL import Image

from protocol.queue.job import Warnings
from service.images.decoding_memory import DecodingMemory
from service.images.image_file import FORMATS, ImageFile, Size, open_image
from service.images.inpainting import (
    Inpainting,
    InpaintingOptions,
    Region,
    ShapedMask,
    alpha_mask,
    compose,
    empty_mask,
)
from service.images.masks import decode_mask, mask_bytes, resize_mask
from service.images.preprocessing import Preprocess
from service.images.resize_modes import Placement, place
from service.images.uploaded_images import (
    LABEL_FORMATS,
    CanonicalImage,
    canonical,
    decode_image,
    decode_label_map,
    decode_with_alpha,
    has_transparency,
    labels_bytes,
    reduction_of,
)

RGB_BYTES = 4  # of a pixel in pillow
MASK_BYTES = 4  # a mask while it is changed
CANVAS_BYTES = 15  # the image, its mask blurred and not, the overlay, and their PNG files
ALPHA_BYTES = 6  # more, if the image has transparency
MODEL_BYTES = 8  # what the model gets, and its PNG files
COPY_BYTES = 12  # an image, the same without alpha, and its PNG file


@dataclass(frozen=True)
class InputImages:
    """Opens and decodes uploaded images of at most `max_pixels`.

    Every method raises `InvalidRequest`; those that decode raise `DecodingBusy`, too.
    """

    memory: DecodingMemory
    max_pixels: int

    def open(self, field: str, data: bytes) -> ImageFile:
        """Return a file with its header read."""
        return open_image(field, data, self.max_pixels, FORMATS)

    def open_label_map(self, field: str, data: bytes) -> ImageFile:
        """Return the file of a label map with its header read."""
        return open_image(field, data, self.max_pixels, LABEL_FORMATS)

    def image(self, file: ImageFile, size: Size) -> CanonicalImage:
        """Return an image in RGB, resized to `size`."""
        reduction = reduction_of(file, size, self.memory.size)
        with self.memory.reserved(file.field, file.text, reduction.bytes):
            return canonical(decode_image(file, size, reduction))

    def with_alpha(self, file: ImageFile) -> CanonicalImage:
        """Return an image in its own size, in RGBA if some of its pixels are transparent."""
        reduction = reduction_of(file, file.size, self.memory.size)
        count = max(reduction.bytes, COPY_BYTES * area(file.size))
        with self.memory.reserved(file.field, file.text, count):
            image = decode_with_alpha(file, file.size, reduction)
            return canonical(image if has_transparency(image) else image.convert("RGB"))

    def changed(self, file: ImageFile, change: Preprocess) -> CanonicalImage:
        """Return an image in RGB, in its own size, with its pixels changed."""
        reduction = reduction_of(file, file.size, self.memory.size)
        count = reduction.bytes + COPY_BYTES * area(file.size)
        with self.memory.reserved(file.field, file.text, count):
            return canonical(change(decode_image(file, file.size, reduction)))

    def placed(self, file: ImageFile, where: Placement) -> CanonicalImage:
        """Return an image in RGB, resized and placed."""
        return canonical(self.pixels(file, where))

    def pixels(self, file: ImageFile, where: Placement) -> Image.Image:
        """Return the pixels of an image in RGB, resized and placed."""
        reduction = reduction_of(file, where.scaled, self.memory.size)
        count = reduction.bytes + RGB_BYTES * area(where.target)
        with self.memory.reserved(file.field, file.text, count):
            return place(decode_image(file, where.scaled, reduction), where)

    def part(self, file: ImageFile, where: Placement, region: Region) -> CanonicalImage:
        """Return the region of an image placed in the canvas, as the model gets it."""
        reduction = reduction_of(file, where.scaled, self.memory.size)
        pixels = area(where.scaled) + area(where.target) + area(region.placement.target)
        with self.memory.reserved(file.field, file.text, reduction.bytes + RGB_BYTES * pixels):
            canvas = place(decode_image(file, where.scaled, reduction), where)
            return canonical(region.cut(canvas))

    def masked_image(
        self, file: ImageFile, mask_file: ImageFile, where: Placement, options: InpaintingOptions
    ) -> tuple[CanonicalImage, CanonicalImage, Warnings]:
        """Return image and mask, resized and placed, of a request that blends nothing."""
        mask, warnings = self.hard_mask(mask_file, file.size, where, options)
        return canonical(self.pixels(file, where)), canonical(mask), warnings

    def hard_mask(
        self, file: ImageFile, size: Size, where: Placement, options: InpaintingOptions
    ) -> tuple[Image.Image, Warnings]:
        """Return a mask for an image of `size`, placed with it, and warnings about it."""
        shaped = size if options.shapes else where.scaled
        count = _mask_bytes(file, size) if options.shapes else mask_bytes(file, shaped)
        with self.memory.reserved(file.field, file.text, count):
            mask, warnings = _shaped(file, shaped, options)
            return place(resize_mask(mask, where.scaled), where), warnings

    def inpainting(
        self,
        file: ImageFile,
        mask_file: ImageFile | None,
        where: Placement,
        options: InpaintingOptions,
        generated: Size,
    ) -> tuple[Inpainting, Warnings]:
        """Return the images of a request whose result is pasted, and warnings about the mask.

        `where`: the image in the result. `mask_file` is None if transparency is the mask.
        """
        reduction = reduction_of(file, where.scaled, self.memory.size)
        canvas_bytes = CANVAS_BYTES + (ALPHA_BYTES if file.is_transparent else 0)
        files = len(file.data) + (len(mask_file.data) if mask_file else 0)
        count = max(
            reduction.bytes,
            canvas_bytes * area(where.target) + MODEL_BYTES * area(generated) + files,
            _mask_bytes(mask_file, file.size) + RGB_BYTES * area(where.target),
        )
        with self.memory.reserved(file.field, file.text, count):
            canvas = place(decode_with_alpha(file, where.scaled, reduction), where)
            warnings: Warnings = ()
            if mask_file is None:
                mask = ShapedMask.of(alpha_mask(canvas), options)
            else:
                decoded = decode_mask(mask_file)
                warnings = tuple(options.remarks(decoded.warnings))
                whole = ShapedMask.of(resize_mask(decoded.image, file.size), options)
                mask = whole.placed(where, options)
            warnings += empty_mask(mask.sharp, "mask" if mask_file else "image", warnings)
            return compose(canvas, mask, options, generated), warnings

    def label_map(self, file: ImageFile, size: Size, classes: int) -> CanonicalImage:
        """Return a label map in `size`; its numbers are below `classes`."""
        with self.memory.reserved(file.field, file.text, labels_bytes(file, size)):
            return canonical(decode_label_map(file, size, classes))


def area(size: Size) -> int:
    """Return the pixels of an image."""
    return size[0] * size[1]


def _mask_bytes(file: ImageFile | None, size: Size) -> int:
    """Return what decoding a mask and changing it in `size` takes."""
    return 0 if file is None else mask_bytes(file, size) + MASK_BYTES * area(size)


def _shaped(
    file: ImageFile, size: Size, options: InpaintingOptions
) -> tuple[Image.Image, Warnings]:
    """Return a mask, changed in `size` if it is changed at all, and warnings about it."""
    mask = decode_mask(file)
    if not options.shapes:
        return mask.image, tuple(options.remarks(mask.warnings))
    shaped = options.shape(resize_mask(mask.image, size))
    remarks = tuple(options.remarks(mask.warnings))
    return shaped, remarks + empty_mask(shaped, file.field, remarks)
