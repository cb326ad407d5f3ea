"""The facts of an upscaler that the code around it needs, and the bounds of its sizes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from models.checkpoints.errors import UnsupportedConfig

RGB = 3
MAX_SCALE = 16
_LARGEST = 4096  # any size of a layer, far above every published one

C = TypeVar("C", bound="UpscalerConfig")


@dataclass(frozen=True)
class UpscalerConfig(ABC):
    """An upscaler's image channels; its output is `scale` times as wide and as high.

    It takes images whose sides are multiples of `multiple` and at least `least`, in pixels.
    """

    channels: int = RGB

    @property
    @abstractmethod
    def scale(self) -> int: ...

    @property
    def multiple(self) -> int:
        return 1

    @property
    def least(self) -> int:
        return 1


def checked_sizes(kind: type[C], config: Mapping[str, Any]) -> C:
    """Return the config of that kind with the sizes of a config.json.

    Raises UnsupportedConfig for sizes that are no whole numbers or out of bounds, for images other
    than RGB, and for a scale that is not from 1 to `MAX_SCALE`.
    """
    sizes = {field.name: config.get(field.name, field.default) for field in fields(kind)}
    for name, size in sizes.items():
        if type(size) is not int or not 0 <= size <= _LARGEST:
            raise UnsupportedConfig(f"{name} is {size!r}, but must be from 0 to {_LARGEST}")
    if sizes["channels"] != RGB:
        raise UnsupportedConfig(f"it reads {sizes['channels']} channels, but must read RGB")
    made = kind(**sizes)
    if not 1 <= made.scale <= MAX_SCALE:
        raise UnsupportedConfig(f"its scale is {made.scale}, but must be from 1 to {MAX_SCALE}")
    return made
