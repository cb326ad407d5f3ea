"""Our request as it is made of a graph: fields, files, and the inputs that they come from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from protocol.request.tasks import Task
from service.dialects.comfyui.graph.errors import not_possible
from service.dialects.comfyui.graph.node_class import NodeRefused
from service.dialects.comfyui.graph.offer import Offer
from service.dialects.comfyui.graph.values import Image, ImageRef, Origin, Resize
from service.schemas.body_parser import Fields

Size = tuple[int, int]  # width, height in pixels

SMOOTH = ("bilinear", "area", "bicubic", "lanczos")
UNIT = 8  # pixels of a latent: ComfyUI cuts off what is left over


@dataclass(frozen=True)
class FileUse:
    """A file of the client as it is used: in RGB, or one channel of it as a mask."""

    ref: ImageRef
    channel: str | None = None


@dataclass
class Draft:
    """A request in the making. `node_id` is the node that does the work."""

    offer: Offer
    node_id: str
    task: Task = Task.TXT2IMG
    fields: Fields = field(default_factory=dict)
    files: dict[str, FileUse] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    def put(self, name: str, value: object, origin: Origin | None) -> None:
        self.fields[name] = value
        if origin is not None:
            self.origins[name] = origin

    def put_file(self, name: str, use: FileUse) -> None:
        self.files[name] = use
        self.origins[name] = use.ref.origin

    def size_of(self, ref: ImageRef) -> Size:
        return self.offer.files[(ref.folder, ref.name)]


def refuse(origin: Origin, reason: str) -> NodeRefused:
    """Return the refusal of an input of any node."""
    return NodeRefused(not_possible(origin.input, reason), origin.node_id)


def target_of(image: Image, size: Size) -> tuple[Size, Resize] | None:
    """Return the size to which an image is resized before it is encoded, None for its own."""
    if (resize := image.resize) is None:
        return None
    if resize.method not in SMOOTH:
        raise refuse(
            resize.origin, f"one of {', '.join(SMOOTH)}: an image is resized smoothly here"
        )
    if resize.size is not None:
        return resize.size, resize
    assert resize.factor is not None
    width, height = (int(side * resize.factor + 0.5) // UNIT * UNIT for side in size)
    return (max(UNIT, width), max(UNIT, height)), resize


def scale_of(resize: Resize, size: Size, tolerance: int) -> float:
    """Return how much larger a size becomes. Raises `NodeRefused` for another aspect."""
    if resize.factor is not None:
        return resize.factor
    assert resize.size is not None
    scale = resize.size[0] / size[0]
    if abs(size[1] * scale - resize.size[1]) >= tolerance:
        raise refuse(resize.origin, f"in the aspect of the image, {size[0]}x{size[1]}")
    return scale


def strength_of(steps: int, done: int) -> float:
    """Return the strength at which exactly `done` of `steps` are done, as our samplers count."""
    strength = done / steps
    while int(steps * strength) < done:
        strength = math.nextafter(strength, 2)
    return min(strength, 1.0)


def upscaler_scale(offer: Offer, name: str) -> int:
    """Return how much an upscaler enlarges."""
    scales: Mapping[str, int] = {
        one.name: one.scale for card in offer.cards.values() for one in card.upscalers
    }
    return scales[name]
