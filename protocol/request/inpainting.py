"""Options of inpainting and image to image, and the place of what is generated in the result."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from protocol.errors import InvalidRequest
from protocol.record import Int, Record
from protocol.request import fields
from protocol.request.fields import WHOLE


class MaskSource(StrEnum):
    """The source of the mask: a file, or the transparency of the image."""

    FILE = "file"
    ALPHA = "alpha"


class MaskMode(StrEnum):
    """The meaning of grey in a mask: compared with 128, or the strength of each pixel."""

    HARD = "hard"
    SOFT = "soft"


class InpaintArea(StrEnum):
    """The area that is generated: the whole image, or only that around the mask, enlarged."""

    WHOLE = "whole"
    MASKED = "masked"


class MaskedContent(StrEnum):
    """The content of the marked area before it is generated.

    fill: colours that flow in from its surroundings; noise and nothing: latents of noise or zeros.
    """

    ORIGINAL = "original"
    FILL = "fill"
    NOISE = "noise"
    NOTHING = "nothing"


class ResizeMode(StrEnum):
    """The way an image is resized to another aspect: stretched, cut, or with continued edges."""

    STRETCH = "stretch"
    CROP = "crop"
    FILL = "fill"


MaskBlur = Annotated[Int, Field(ge=0, le=fields.MAX_MASK_PIXELS), WHOLE]
MaskGrow = Annotated[Int, Field(ge=-fields.MAX_MASK_PIXELS, le=fields.MAX_MASK_PIXELS), WHOLE]
MaskPadding = Annotated[Int, Field(ge=0, le=fields.MAX_MASK_PADDING), WHOLE]
DEFAULT_MASK_PADDING = 32


class PixelBox(Record):
    """A rectangle of an image, in pixels from its left upper corner."""

    left: Annotated[Int, Field(ge=0, le=fields.MAX_SIDE)]
    top: Annotated[Int, Field(ge=0, le=fields.MAX_SIDE)]
    width: fields.Side
    height: fields.Side

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, as pillow takes them."""
        return self.left, self.top, self.left + self.width, self.top + self.height


class Paste(Record):
    """The steps from a generated image to the result, an image of `width` x `height`.

    Its part `used` is resized to `box`. With `image_key`, an RGB or RGBA PNG of the result's size,
    it is blended into that image by the mask `mask_key`, an L PNG: where the mask is 0 the image
    stays, where it is 255 it is replaced. The image's alpha stays.
    """

    width: fields.Side
    height: fields.Side
    used: PixelBox
    box: PixelBox
    image_key: fields.InputKey | None = None
    mask_key: fields.InputKey | None = None

    @property
    def input_keys(self) -> tuple[str, ...]:
        return tuple(key for key in (self.image_key, self.mask_key) if key is not None)


def check_area(
    area: InpaintArea | None, padding: int | None, resize_mode: ResizeMode | None
) -> None:
    """Raise `InvalidRequest` for options that do not go with the area."""
    if area is InpaintArea.MASKED and resize_mode is not None:
        bound = "absent, as inpaint_area is masked: the image keeps its size"
        raise InvalidRequest("resize_mode", resize_mode.value, bound, "not-together")
    if area is not InpaintArea.MASKED and padding is not None:
        bound = "absent, as inpaint_area is not masked"
        raise InvalidRequest("mask_padding", padding, bound, "not-without-another")
