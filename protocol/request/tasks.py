"""What is made out of what: the tasks, and what each takes beside what all of them take."""

from collections.abc import Mapping
from enum import StrEnum


class Task(StrEnum):
    """What a request wants; a model does some of them, as its card says."""

    TXT2IMG = "txt2img"
    IMG2IMG = "img2img"
    INPAINT = "inpaint"
    UPSCALE = "upscale"
    UNCONDITIONAL = "unconditional"
    CLASS = "class"
    LAYOUT = "layout"
    SEMANTIC = "semantic"

    def takes(self, field: str) -> bool:
        """Whether `field`, one of `OF_SOME_TASKS`, belongs to a request for this task."""
        return field in TAKES[self]

    @property
    def takes_image(self) -> bool:
        return self.takes("image")

    @property
    def takes_mask(self) -> bool:
        return self.takes("mask")


_WORDS = frozenset({"prompt", "negative_prompt"})
_CONTROLS = frozenset({"controls"})
_SIZE = frozenset({"width", "height"})

# The image of `semantic` is a map of class numbers; `upscale` draws a multiple of its image's size.
TAKES: Mapping[Task, frozenset[str]] = {
    Task.TXT2IMG: _WORDS | _SIZE | _CONTROLS | {"refiner", "hires_scale"},
    Task.IMG2IMG: _WORDS | _SIZE | _CONTROLS | {"image", "strength"},
    Task.INPAINT: _WORDS | _SIZE | _CONTROLS | {"image", "mask", "strength"},
    Task.UPSCALE: frozenset({"image"}),
    Task.UNCONDITIONAL: _SIZE,
    Task.CLASS: _SIZE | {"class_id"},
    Task.LAYOUT: _SIZE | {"boxes"},
    Task.SEMANTIC: _SIZE | {"image"},
}
OF_SOME_TASKS: frozenset[str] = frozenset().union(*TAKES.values())
NEEDED = frozenset({"image", "mask", "class_id", "boxes"})  # by the tasks that take them
