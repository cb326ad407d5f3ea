"""Configurations of upscalers, from the shapes of their parameters in our names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from models.checkpoints.detect.configs import Config
from models.checkpoints.errors import CheckpointError
from models.checkpoints.key_plan import Shape
from models.checkpoints.keys.upscaler import Network


def upscaler_config(network: Network, shapes: Mapping[str, Shape]) -> Config:
    """Return the config.json of an upscaler. Raises CheckpointError for impossible shapes."""
    sizes = _rrdb(shapes) if network == "RRDBNet" else _compact(shapes)
    return {"_class_name": network, **sizes}


def _rrdb(shapes: Mapping[str, Shape]) -> Config:
    width, folded = _convolution(shapes, "conv_first")
    channels, _ = _convolution(shapes, "conv_last")
    growth, _ = _convolution(shapes, "body.0.rdb1.conv1")
    return {
        "channels": channels,
        "width": width,
        "growth": growth,
        "blocks": 1 + _highest(shapes, r"body\.(\d{1,3})\..*"),
        "doublings": max(0, _highest(shapes, r"conv_up(\d{1,3})\..*")),
        "unshuffle": _root(folded, channels, "its first convolution reads"),
    }


def _compact(shapes: Mapping[str, Shape]) -> Config:
    last = _highest(shapes, r"body\.(\d{1,3})\.weight")
    width, channels = _convolution(shapes, "body.0")
    outputs, _ = _convolution(shapes, f"body.{last}")
    return {
        "channels": channels,
        "width": width,
        "convolutions": max(0, (last - 2) // 2),
        "upscale": _root(outputs, channels, "its last convolution writes"),
    }


def _convolution(shapes: Mapping[str, Shape], name: str) -> tuple[int, int]:
    """Return the output and input channels of a convolution."""
    shape = shapes.get(f"{name}.weight")
    if shape is None or len(shape) != 4 or 0 in shape:
        found = "missing" if shape is None else f"of shape {shape}"
        raise CheckpointError(f"its convolution {name} is {found}, so it is no upscaler")
    return shape[0], shape[1]


def _root(folded: int, channels: int, what: str) -> int:
    """Return the factor by which a side is folded into channels. Raises CheckpointError."""
    factor = math.isqrt(folded // channels)
    if channels * factor**2 != folded:
        raise CheckpointError(f"{what} {folded} channels, which are no folded {channels} channels")
    return factor


def _highest(names: Iterable[str], pattern: str) -> int:
    """Return the highest number in the names that match, -1 if there is none."""
    matches = (re.fullmatch(pattern, name) for name in names)
    return max((int(match[1]) for match in matches if match), default=-1)
