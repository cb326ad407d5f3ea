"""Image to image and inpainting, by AUTOMATIC1111's names and numbers."""

from protocol.errors import InvalidRequest
from protocol.request.inpainting import (
    InpaintArea,
    MaskedContent,
    MaskMode,
    ResizeMode,
)
from service.dialects.automatic1111.errors import InitImageNotFound
from service.dialects.automatic1111.options import Options
from service.dialects.automatic1111.requests import ImageToImage
from service.dialects.lenient import file_field
from service.schemas.body_parser import Fields

RESIZE_MODES = (ResizeMode.STRETCH, ResizeMode.CROP, ResizeMode.FILL)
MASKED_CONTENT = (
    MaskedContent.FILL,
    MaskedContent.ORIGINAL,
    MaskedContent.NOISE,
    MaskedContent.NOTHING,
)


def image_fields(body: ImageToImage, options: Options) -> Fields:
    """Return our fields of the first image, and of the mask if there is one.

    Raises `InitImageNotFound` and other `InvalidRequest`s.
    """
    if not body.init_images or not all(body.init_images):
        raise InitImageNotFound
    fields = file_field("image", body.init_images[0])
    noise = body.initial_noise_multiplier
    noise = options.initial_noise_multiplier if noise is None else noise
    if noise != 1:
        fields["noise_multiplier"] = noise
    if body.denoising_strength is not None:
        fields["strength"] = body.denoising_strength
    masked_only = bool(body.mask) and body.inpaint_full_res
    if not masked_only and body.width and body.height:
        fields["resize_mode"] = RESIZE_MODES[body.resize_mode].value
    return fields | _mask_fields(body) if body.mask else fields


def _mask_fields(body: ImageToImage) -> Fields:
    fields: Fields = {
        **file_field("mask", body.mask),
        "mask_blur": _blur(body),
        "masked_content": MASKED_CONTENT[body.inpainting_fill].value,
        **({"mask_invert": True} if body.inpainting_mask_invert else {}),
        **({} if body.mask_round else {"mask_mode": MaskMode.SOFT.value}),
    }
    if body.inpaint_full_res:
        fields["inpaint_area"] = InpaintArea.MASKED.value
        fields["mask_padding"] = body.inpaint_full_res_padding
    return fields


def _blur(body: ImageToImage) -> int:
    """Return the blur of the mask, which is the same in both directions here."""
    if body.mask_blur is not None:
        return body.mask_blur
    if body.mask_blur_x != body.mask_blur_y:
        bound = f"mask_blur_x, which is {body.mask_blur_x}"
        raise InvalidRequest("mask_blur_y", body.mask_blur_y, bound, "not-supported")
    return body.mask_blur_x
