"""Large images in tiles: cut and faded as in diffusers, without visible seams."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from models.autoencoders.pixels import to_bytes
from models.autoencoders.registry import build_first_stage
from models.executors.base import decoder, encoder
from models.executors.eager import Eager
from models.executors.tiling import Tiled, Tiling, tiled
from models.loading.loader import BUNDLED, load_model
from models.pipeline import LatentDiffusion

CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [32, 32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "sample_size": 32,
}
FACTOR = 4


@pytest.fixture(scope="module")
def bundled() -> LatentDiffusion:
    return load_model(str(BUNDLED), torch.device("cpu"))


def smooth_image(height: int, width: int) -> Tensor:
    """Return (3, H, W) in [-1, 1]: colours that change slowly, with some edges."""
    generator = torch.Generator().manual_seed(11)
    coarse = torch.randn(1, 3, 5, 5, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    image[..., height // 3 : height // 2, width // 5 :] *= -1
    return image[0].clamp(-1, 1)


@pytest.mark.parametrize("size", [(48, 72), (36, 60), (64, 44)])
@torch.inference_mode()
def test_tiles_are_those_of_diffusers(size: tuple[int, int]) -> None:
    theirs = diffusers.AutoencoderKL.from_config(CONFIG).eval()
    theirs.enable_tiling()
    ours = build_first_stage(CONFIG).eval()
    ours.load_state_dict(theirs.state_dict())
    decode = Tiled(Eager(decoder(ours, 8), same_bytes=False), 8, 0, up=FACTOR)
    encode = Tiled(Eager(encoder(ours, 32), same_bytes=False), 32, 0, down=FACTOR)
    generator = torch.Generator().manual_seed(sum(size))
    z = torch.randn(1, 4, size[0] // FACTOR, size[1] // FACTOR, generator=generator)
    image = torch.rand(1, 3, *size, generator=generator) * 2 - 1
    expected = theirs.decode(z).sample
    torch.testing.assert_close(decode(z), expected, rtol=0, atol=1e-5)
    bytes_apart = to_bytes(decode(z)).int() - to_bytes(expected).int()
    assert bytes_apart.abs().max() <= 1
    moments = theirs.encode(image).latent_dist.parameters
    torch.testing.assert_close(encode(image), moments, rtol=0, atol=1e-5)
    assert not torch.allclose(decode(z), ours.decode(z), atol=1e-3)


@torch.inference_mode()
def test_small_image_is_processed_whole(bundled: LatentDiffusion) -> None:
    z = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(2))
    side = 12 * bundled.autoencoder.config.factor
    whole = bundled.executors.decoder(z)
    for tiling in (Tiling(side), Tiling(64, whole=side * side)):
        executors = tiled(bundled.executors, bundled.autoencoder, tiling)
        assert torch.equal(executors.decoder(z), whole)
    cut = tiled(bundled.executors, bundled.autoencoder, Tiling(64))
    assert not torch.equal(cut.decoder(z), whole)


@torch.inference_mode()
def test_tile_seams_of_trained_autoencoder_are_invisible(bundled: LatentDiffusion) -> None:
    height, width, side = 160, 224, 64
    executors = tiled(bundled.executors, bundled.autoencoder, Tiling(side))
    image = smooth_image(height, width)
    z = bundled.autoencoder.encode(image[None]).mode()
    whole, cut = bundled.executors.decoder(z), executors.decoder(z)
    assert (cut - whole).abs().mean() / 2 < 0.06  # as a share of the range from black to white

    def steps(image: Tensor) -> Tensor:
        """Return the difference between adjacent columns, less that of the whole image."""
        return (image.diff(dim=-1) - whole.diff(dim=-1)).abs().mean((0, 1, 2)) / 2

    stride, fade = side * 3 // 4, side // 4
    edges = [start + offset for start in range(stride, width, stride) for offset in (-1, fade - 1)]
    faded = steps(cut)[edges].max() / steps(cut).mean()
    half = z.shape[-1] // 2
    butted = torch.cat([bundled.executors.decoder(part) for part in z.split(half, dim=-1)], -1)
    hard = steps(butted)[half * bundled.autoencoder.config.factor - 1] / steps(butted).mean()
    assert faded < 3
    assert hard > 2 * faded
