"""Where randomness comes from: one CPU generator per image, so a seed means one image.

The generator does not live on the GPU because the same seed gives other numbers on other
devices, and it is never shared, because then an image would depend on its neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor


class ImageNoise:
    """The stream of unit Gaussian noise that belongs to one image.

    The order of draws is part of the recipe. It is that of the diffusers pipelines: the sample
    of the encoded input image (if any), the initial noise, then what a stochastic sampler adds.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int]) -> None:
        """`seed` in [0, 2**53); `shape` is (C, h, w) of the latents."""
        self._generator = torch.Generator("cpu").manual_seed(seed)
        self._shape = shape

    def resized(self, shape: tuple[int, int, int]) -> ImageNoise:
        """The same stream going on in another shape: a second pass at another size."""
        noise = ImageNoise(0, shape)
        noise._generator = self._generator
        return noise

    def draw(self, device: torch.device) -> Tensor:
        """The next (C, h, w) float32."""
        # The leading 1 matters: torch fills (1, C, h, w) and (C, h, w) alike today, and stays so.
        return torch.randn((1, *self._shape), generator=self._generator)[0].to(device)
