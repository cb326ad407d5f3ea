"""Decoded images as bytes, and the depth of LDM3D."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.autoencoders.pixels import to_bytes


def decoded(channels: int) -> Tensor:
    """Return an image like a decoder's output: partly beyond [-1, 1]."""
    generator = torch.Generator().manual_seed(channels)
    return 0.8 * torch.randn(2, channels, 8, 12, generator=generator)


def to_uint8(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    array = np.clip(image.numpy() / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1)
    return np.asarray((array * 255).round(), np.uint8)


def test_image_bytes_are_unchanged() -> None:
    image = decoded(3)
    assert np.array_equal(to_bytes(image).numpy(), to_uint8(image))


def test_depth_image_has_its_bytes_in_green_and_blue() -> None:
    image = decoded(6)
    planes = to_bytes(image).numpy()
    expected = to_uint8(image)
    assert np.array_equal(planes[..., :3], expected[..., :3])
    depth = expected[..., 4].astype(np.uint16) * 256 + expected[..., 5]
    assert np.array_equal(planes[..., 3].astype(np.uint16) * 256 + planes[..., 4], depth)


def test_depth_channel_has_sixteen_bits() -> None:
    image = decoded(4)
    planes = to_bytes(image).numpy()
    assert np.array_equal(planes[..., :3], to_uint8(image[:, :3]))
    depth = planes[..., 3].astype(int) * 256 + planes[..., 4]
    expected = np.clip(image[:, 3].numpy() / 2 + 0.5, 0, 1).astype(np.float64) * 65535
    assert np.abs(depth - expected).max() < 0.51
    assert depth.min() == 0
    assert depth.max() == 65535


@pytest.mark.parametrize("channels", [3, 4, 6])
def test_every_plane_has_bytes(channels: int) -> None:
    planes = to_bytes(decoded(channels))
    assert planes.dtype == torch.uint8
    assert planes.shape == (2, 8, 12, 3 if channels == 3 else 5)
