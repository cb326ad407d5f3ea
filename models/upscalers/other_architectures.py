"""Upscalers of other architectures, by the optional package `spandrel` (SwinIR, DAT, HAT, SPAN, …).

spandrel gets tensors that our own reader has read; it never opens a file. Only its architectures
under permissive licences are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.errors import CheckpointError
from models.upscalers.config import MAX_SCALE, RGB, UpscalerConfig

_LARGE_NUMBER = re.compile(r"\d{4}")  # numbers in keys become numbers of layers


@dataclass(frozen=True)
class OtherConfig(UpscalerConfig):
    """The facts of a network that spandrel has built."""

    architecture: str = ""
    factor: int = 1
    sides: int = 1
    smallest: int = 1
    half: bool = True  # it may run in half precision

    @property
    def scale(self) -> int:
        return self.factor

    @property
    def multiple(self) -> int:
        return self.sides

    @property
    def least(self) -> int:
        return self.smallest


class OtherUpscaler(nn.Module):
    """image (1, 3, H, W) in [0, 1] -> (1, 3, scale·H, scale·W)."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.network = descriptor.model
        self._descriptor = descriptor
        sizes = descriptor.size_requirements
        self.config = OtherConfig(
            architecture=str(descriptor.architecture.name),
            factor=descriptor.scale,
            sides=sizes.multiple_of,
            smallest=max(1, sizes.minimum),
            half=descriptor.supports_half,
        )

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self._descriptor(image)
        return out


def build_other(weights: Mapping[str, Tensor]) -> OtherUpscaler:
    """Return the network for `weights`, as spandrel recognises it.

    Raises CheckpointError without spandrel, and for a file that is no RGB upscaler it knows.
    """
    spandrel = _spandrel()
    for key in weights:
        if _LARGE_NUMBER.search(key):
            raise CheckpointError(f"{key[:100]!r} has a number above 999, as no upscaler has")
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(dict(weights))
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError("it is of no architecture that spandrel knows") from error
    except Exception as error:  # of any kind: the weights may be of a damaged or hostile file
        raise CheckpointError(f"spandrel cannot load it: {type(error).__name__}") from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise CheckpointError("it is a network of another kind than from image to image")
    channels = descriptor.input_channels, descriptor.output_channels
    if channels != (RGB, RGB) or not 1 <= descriptor.scale <= MAX_SCALE:
        raise CheckpointError(
            f"it makes {channels[1]} channels of {channels[0]} at scale {descriptor.scale}, "
            f"but must make RGB of RGB at a scale up to {MAX_SCALE}"
        )
    return OtherUpscaler(descriptor)


def _spandrel() -> Any:
    try:
        import spandrel
    except ImportError as error:
        raise CheckpointError(
            "its network is none of ours: install the extra `upscalers` (package spandrel)"
        ) from error
    except RuntimeError as error:
        raise CheckpointError(
            "the installed torchvision is for another build of torch: install the one that matches "
            f"torch {torch.__version__}"
        ) from error
    return spandrel
