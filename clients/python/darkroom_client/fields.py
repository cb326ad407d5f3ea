"""The fields of a request, as keyword arguments. The server fills in those that are absent.

`docs/api.md` of Darkroom explains them. Bounds are the server's to check.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias, TypedDict, Union

from darkroom_client.records import ExtraFile, ImageFile

if TYPE_CHECKING:
    from PIL.Image import Image

Task = Literal[
    "txt2img",
    "img2img",
    "inpaint",
    "outpaint",
    "upscale",
    "unconditional",
    "class",
    "layout",
    "semantic",
]
# A file: its bytes, its path (no plain string), an open binary file, an image of Pillow or ours.
ImageInput: TypeAlias = Union[bytes, os.PathLike[str], BinaryIO, "Image", ImageFile, ExtraFile]


class _Named(TypedDict):
    name: str


class Lora(_Named, total=False):
    """A LoRA, with its weights in the UNet and in the text encoders."""

    weight: float
    text_encoder_weight: float
    block_weights: str | Sequence[float]
    start: float
    end: float


class _OfModel(TypedDict):
    model: str


class Control(_OfModel, total=False):
    """A ControlNet and its image; without one it takes the image of the request."""

    image: ImageInput
    weight: float
    start: float
    end: float
    resize_mode: Literal["stretch", "crop", "fill"]


Box = TypedDict(
    "Box", {"class": int | str, "x": float, "y": float, "width": float, "height": float}
)


class Fields(TypedDict, total=False):
    """The fields of all tasks but their inputs."""

    negative_prompt: str
    prompt_syntax: Literal["weights", "plain"]
    clip_skip: int
    model: str
    width: int
    height: int
    steps: int
    sampler: str
    schedule: str
    eta: float
    guidance_scale: float
    guidance_rescale: float
    guidance_start: float
    guidance_end: float
    image_guidance_scale: float
    seed: int
    n: int
    strength: float
    noise_multiplier: float
    noise_level: int
    depth_map: ImageInput
    resize_mode: Literal["stretch", "crop", "fill"]
    mask_blur: int
    mask_grow: int
    mask_invert: bool
    mask_source: Literal["file", "alpha"]
    mask_mode: Literal["hard", "soft"]
    inpaint_area: Literal["whole", "masked"]
    mask_padding: int
    masked_content: Literal["original", "fill", "noise", "nothing"]
    left: int
    right: int
    top: int
    bottom: int
    anchor: Literal[
        "center",
        "top",
        "bottom",
        "left",
        "right",
        "top-left",
        "top-right",
        "bottom-left",
        "bottom-right",
    ]
    edge_blend: int
    decoder: Literal["full", "tiny"]
    loras: Sequence[Lora]
    controls: Sequence[Control]
    previews: bool
    refiner: str
    refiner_start: float
    aesthetic_score: float
    hires_scale: float
    hires_steps: int
    hires_strength: float
    hires_upscaler: str
    upscaler: str
    upscaler_2: str
    upscaler_blend: float
    scale: float
    tile_size: int
    tile_overlap: int
    output_format: Literal["png", "jpeg", "webp", "avif"]
    quality: int
    metadata: bool
    audio_format: Literal["wav", "flac", "mp3"]
    audio_stereo: bool
    priority: Literal["high", "normal", "low"]
    deadline_s: float
    webhook_url: str


class TaskFields(Fields, total=False):
    """The fields of a request for any task. None is the same as leaving the field out."""

    prompt: str | None
    image: ImageInput
    mask: ImageInput | None
    class_id: int | str
    boxes: Sequence[Box]
