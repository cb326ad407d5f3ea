"""Noise from one CPU generator per image, so that a seed determines one image.

The generator is not on the GPU, because the same seed gives other numbers on other devices. It is
never shared, because an image would then depend on the others in its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ImageNoise:
    """The stream of unit Gaussian noise of one image.

    A seed fixes the order of samples, which is that of the diffusers pipelines: the sample of the
    encoded input image (if any), the initial noise, then the noise that a stochastic sampler adds.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int]) -> None:
        """Seed a generator; `seed` is in [0, 2**53), `shape` is (C, h, w) of the latents."""
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._shape = shape

    def resized(self, shape: tuple[int, int, int]) -> ImageNoise:
        """Return the continuation of this stream in another shape, for a pass at another size."""
        noise = ImageNoise(0, shape)
        noise._generator = self._generator
        return noise

    def sample(self, device: torch.device) -> Tensor:
        """Return the next (C, h, w) float32."""
        # The leading 1 matters: torch fills (1, C, h, w) and (C, h, w) alike today, and stays so.
        return torch.randn((1, *self._shape), generator=self._generator)[0].to(device)
