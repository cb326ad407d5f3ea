"""The tasks, and the fields that only some of them take."""

from collections.abc import Mapping
from enum import StrEnum


class Task(StrEnum):
    """The kind of a request. The card of a model lists the tasks that it can do."""

    TXT2IMG = "txt2img"
    IMG2IMG = "img2img"
    INPAINT = "inpaint"
    OUTPAINT = "outpaint"
    UPSCALE = "upscale"
    UNCONDITIONAL = "unconditional"
    CLASS = "class"
    LAYOUT = "layout"
    SEMANTIC = "semantic"

    def takes(self, field: str) -> bool:
        """Return True if `field`, one of `TASK_FIELDS`, is allowed in a request for this task."""
        return field in FIELDS_OF[self]

    @property
    def requires_prompt(self) -> bool:
        """Return True if models that read prompts need one; to upscale, it is optional."""
        return self.takes("prompt") and self is not Task.UPSCALE

    @property
    def takes_image(self) -> bool:
        return self.takes("image")

    @property
    def takes_mask(self) -> bool:
        return self.takes("mask")


_PROMPTS = frozenset({"prompt", "negative_prompt"})
_CONTROLS = frozenset({"controls"})
_SIZE = frozenset({"width", "height"})
_FROM_IMAGE = frozenset({"image", "strength", "noise_multiplier"})
_RESIZED = frozenset({"resize_mode"})
_BORDER = frozenset({"left", "right", "top", "bottom", "anchor", "edge_blend", "masked_content"})
_MASK = frozenset(
    {
        "mask",
        "mask_blur",
        "mask_grow",
        "mask_invert",
        "mask_source",
        "mask_mode",
        "inpaint_area",
        "mask_padding",
        "masked_content",
    }
)
_OF_SOME_MODELS = frozenset({"image_guidance_scale", "depth_map"})
_TILES = frozenset({"tile_size", "tile_overlap", "upscaler", "scale"})

# The image of `semantic` is a map of class numbers. `upscale` multiplies its image's size, with an
# upscaler by `scale`, else by the model's factor. `img2img` scales its image up before it generates
# in tiles.
FIELDS_OF: Mapping[Task, frozenset[str]] = {
    Task.TXT2IMG: _PROMPTS | _SIZE | _CONTROLS | {"refiner", "hires_scale"},
    Task.IMG2IMG: _PROMPTS | _SIZE | _CONTROLS | _TILES | _FROM_IMAGE | _RESIZED | _OF_SOME_MODELS,
    Task.INPAINT: _PROMPTS | _SIZE | _CONTROLS | _FROM_IMAGE | _RESIZED | _MASK,
    Task.OUTPAINT: _PROMPTS | _SIZE | _FROM_IMAGE | _BORDER,
    Task.UPSCALE: _PROMPTS
    | {"image", "noise_level", "upscaler", "upscaler_2", "upscaler_blend", "scale"},
    Task.UNCONDITIONAL: _SIZE,
    Task.CLASS: _SIZE | {"class_id"},
    Task.LAYOUT: _SIZE | {"boxes"},
    Task.SEMANTIC: _SIZE | {"image"},
}
TASK_FIELDS: frozenset[str] = frozenset().union(*FIELDS_OF.values())
REQUIRED_FIELDS = frozenset({"image", "mask", "class_id", "boxes"})  # by the tasks that take them
