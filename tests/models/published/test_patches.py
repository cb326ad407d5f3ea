"""Networks in overlapping patches: blended as in CompVis' code, in bounded memory, no seams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.denoising.patches import Patches
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import load_model
from tests.models.published import small_models
from tests.support.tiny_models import write_tiny_upscaling

PATCHES = Patches(side=8, stride=4)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def curved(x: Tensor, *rest: Tensor) -> Tensor:
    """Compute a function that depends on the patch as a whole."""
    return torch.tanh(x) * x.mean((1, 2, 3), keepdim=True) + x.flip(-1)


def folded(network: object, x: Tensor, side: int, stride: int, scale: int) -> Tensor:
    """Blend as CompVis/latent-diffusion does (ddpm.py, get_fold_unfold).

    With torch's fold and unfold, and a weight by the distance to the nearer edge. For sizes that
    strides divide.
    """
    channels, height, width = x.shape[1:]
    parts = F.unfold(x, side, stride=stride).unflatten(1, (channels, side, side))
    outputs = torch.stack([network(part) for part in parts.unbind(-1)], dim=-1)  # type: ignore[operator]
    big = scale * side
    place = torch.stack(torch.meshgrid(*2 * [torch.arange(big) / (big - 1)], indexing="ij"))
    weight = torch.minimum(place, 1 - place).amin(0).clamp(0.01, 0.5)
    weights = weight.flatten()[None, :, None].expand(1, -1, outputs.shape[-1])

    def fold(patches: Tensor) -> Tensor:
        size = (scale * height, scale * width)
        return F.fold(patches, size, big, stride=scale * stride)

    total = fold((outputs * weights.reshape(1, 1, big, big, -1)).flatten(1, 3))
    return total / fold(weights)


@pytest.mark.parametrize("scale", [1, 4])
def test_blended_as_compvis_blends(scale: int) -> None:
    def network(x: Tensor, *rest: Tensor) -> Tensor:
        return F.interpolate(curved(x), scale_factor=scale)

    x = random(2, 3, 20, 12)
    theirs = folded(network, x, PATCHES.side, PATCHES.stride, scale)
    ours = PATCHES.run(network, x, scale=scale)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 9), (9, 8), (31, 17), (8, 40), (3, 20)])
def test_constant_output_stays_constant(size: tuple[int, int]) -> None:
    same = torch.full((1, 3, *size), 0.7)
    torch.testing.assert_close(PATCHES.run(lambda x: x, same), same)
    x = random(2, 3, *size)
    torch.testing.assert_close(PATCHES.run(lambda x: x, x), x)


def test_network_gets_few_equal_patches_at_once_with_their_rows() -> None:
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor, row: Tensor) -> Tensor:
        seen.append(tuple(x.shape))
        assert torch.equal(x.mean((1, 2, 3)), row)
        return x

    x = torch.tensor([1.0, 2.0])[:, None, None, None].expand(2, 3, 60, 50)
    PATCHES.run(network, x, torch.tensor([1.0, 2.0]))
    assert {shape[1:] for shape in seen} == {(3, 8, 8)}
    assert max(rows for rows, *_ in seen) == PATCHES.rows
    seen.clear()
    PATCHES.run(lambda x: network(x, x.mean((1, 2, 3))).repeat(1, 1, 2, 2), x, scale=2)
    assert {rows for rows, *_ in seen} == {1}


def test_different_patches_fade_into_each_other() -> None:
    """A step at a seam would be their full difference."""
    outputs = iter((-1.0, 0.0, 1.0))  # of the three patches
    blended = Patches(side=32, stride=16, rows=1).run(
        lambda x: torch.full_like(x, next(outputs)), random(1, 1, 32, 64)
    )
    steps = blended[0, 0, 16].diff()
    assert [float(blended.min()), float(blended.max())] == [-1, 1]
    assert 0 < steps.max() < 0.15


def apart(one: Tensor, other: Tensor) -> float:
    """Return the root mean square of the difference, as a share of the standard deviation."""
    return float((one - other).square().mean().sqrt() / one.std())


def test_large_image_is_nearly_that_without_patches(tmp_path: Path) -> None:
    """At a size that also fits at once, with a random network with global attention."""
    model = load_model(str(small_models.write_super_resolution(tmp_path)), torch.device("cpu"))
    assert model.patches == Patches(side=128, stride=64)
    smooth = F.interpolate(random(1, 3, 3, 4), size=(24, 28), mode="bicubic")[0].clamp(-1, 1)
    params = SamplingParams(
        width=112, height=96, steps=4, sampler="ddim", schedule="leading", guidance_scale=1.0,
        seed=1, low_res=smooth,
    )  # fmt: skip
    whole = replace(model, patches=None)
    inside = replace(model, patches=Patches(side=16, stride=8))
    latents = [list(m.generate([params]))[-1][0].x for m in (whole, inside)]
    assert 0 < apart(*latents) < 0.15
    decoded = [m.decode(latents[0][None]).float() for m in (whole, inside)]
    assert 0 < apart(*decoded) < 0.25
    assert torch.equal(latents[0], list(model.generate([params]))[-1][0].x)  # one patch is enough


def test_guided_and_labelled_rows_in_patches(tmp_path: Path) -> None:
    """The x4 upscaler: every patch of a row has the row's prompt and noise level."""
    model = load_model(str(write_tiny_upscaling(tmp_path)), torch.device("cpu"))
    assert model.patches == Patches(side=128, stride=64)
    params = SamplingParams(
        "the red cat", width=112, height=96, steps=3, sampler="ddim", schedule="leading",
        guidance_scale=3.0, seed=1, noise_level=20,
        low_res=F.interpolate(random(1, 3, 3, 4), size=(24, 28), mode="bicubic")[0].clamp(-1, 1),
    )  # fmt: skip
    whole, inside = (
        replace(model, patches=patches) for patches in (None, Patches(side=16, stride=8))
    )
    first, second = (list(m.generate([params]))[-1][0].x for m in (whole, inside))
    assert 0 < apart(first, second) < 0.15
    noisier = replace(params, noise_level=300)
    assert apart(second, list(inside.generate([noisier]))[-1][0].x) > 0.05
