"""Tiles cover an image, their weights sum to 1, and a local network gives the whole image."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.denoising.denoiser import Conditioning, Control, Controls, DenoisingState, advance
from models.denoising.noise import ImageNoise
from models.denoising.tiled_state import TiledState, advance_tiles
from models.denoising.tiles import TileGrid
from models.networks.unet import AddedConditioning
from models.samplers import compile_table
from models.samplers.noise_schedule import NoiseSchedule

SHAPE = (4, 40, 53)
RADIUS = 2  # of what the network below sees, in latents
KERNEL = torch.randn(4, 4, 2 * RADIUS + 1, 2 * RADIUS + 1, generator=torch.Generator())


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    side = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, side // 2))
    return TileGrid(draw(st.integers(1, 150)), draw(st.integers(1, 150)), side, overlap)


@given(grids())
def test_tiles_cover_every_latent_with_weights_that_sum_to_one(grid: TileGrid) -> None:
    total = torch.zeros(grid.height, grid.width)
    for window, weight in zip(grid.windows, grid.weights, strict=True):
        assert total[window].shape == weight.shape == grid.shape
        assert weight.min() >= 0
        total[window] += weight
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


@given(grids())
def test_neighbours_share_the_overlap(grid: TileGrid) -> None:
    for length, axis in ((grid.height, 0), (grid.width, 1)):
        starts = sorted({window[axis].start for window in grid.windows})
        shared = [a + grid.side - b for a, b in pairwise(starts)]
        assert all(grid.overlap <= n < grid.side for n in shared)
        assert starts[-1] + min(grid.side, length) == length


def local_network(
    x: Tensor,
    timestep: Tensor,
    context: Tensor | None,
    added: AddedConditioning | None,
    controls: Controls | None,
) -> Tensor:
    """Return a convolution of x, scaled by the context, whose edges are zeros as in a UNet."""
    assert context is not None
    out = F.conv2d(x, KERNEL / 10, padding=RADIUS)
    return out * context.mean((1, 2))[:, None, None, None]


def source() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))


def state(sampler: str = "euler_ancestral", seed: int = 1) -> DenoisingState:
    return DenoisingState.start(
        compile_table(sampler, "trailing", 4, NoiseSchedule(), strength=0.8),
        ImageNoise(seed, SHAPE),
        torch.device("cpu"),
        Conditioning(torch.ones(3, 4)),
        source=source(),
        negative=Conditioning(torch.zeros(3, 4)),
        guidance_scale=3.0,
        guidance_rescale=0.5,
        guidance_interval=(0.0, 0.8),
    )


def in_tiles(whole: DenoisingState, side: int, overlap: int) -> TiledState:
    return TiledState(
        whole.table,
        whole.x,
        whole.noise,
        whole.positive,
        whole.negative,
        whole.guidance_scale,
        whole.guidance_rescale,
        guidance_interval=whole.guidance_interval,
        grid=TileGrid(*SHAPE[1:], side, overlap),
    )


def finish_whole(whole: DenoisingState) -> Tensor:
    while not whole.done:
        advance(local_network, [whole], torch.float32)
    return whole.x


def finish_tiles(*states: TiledState, most: int = 3) -> list[Tensor]:
    while running := [tiled for tiled in states if not tiled.done]:
        for tiled in running:
            tiled.most_tiles = most
        advance_tiles(local_network, running, torch.float32)
    return [tiled.x for tiled in states]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_sde"])
@pytest.mark.parametrize(("side", "overlap"), [(16, 8), (20, 10), (48, 12), (24, 8)])
def test_tiles_equal_the_whole_where_the_network_is_local(
    sampler: str, side: int, overlap: int
) -> None:
    whole = finish_whole(state(sampler))
    [tiled] = finish_tiles(in_tiles(state(sampler), side, overlap))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1 / 255 * whole.abs().max().item())
    [apart] = finish_tiles(in_tiles(state(sampler), side, 0))
    assert not torch.allclose(apart, whole, rtol=0, atol=10 / 255)


def test_one_tile_that_covers_the_image_equals_the_whole() -> None:
    [tiled] = finish_tiles(in_tiles(state(), 64, 32))
    assert torch.equal(tiled, finish_whole(state()))


def test_number_of_tiles_in_a_run_changes_no_bit() -> None:
    [one] = finish_tiles(in_tiles(state(), 16, 4), most=1)
    for most in (2, 5, 100):
        [many] = finish_tiles(in_tiles(state(), 16, 4), most=most)
        torch.testing.assert_close(many, one, rtol=1e-5, atol=1e-5)
    pair = finish_tiles(in_tiles(state(), 16, 4), in_tiles(state(seed=2), 16, 4), most=4)
    torch.testing.assert_close(pair[0], one, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(pair[1], one, atol=1e-2)


def test_evaluations_and_runs_count_down() -> None:
    tiled = in_tiles(state("euler"), 16, 4)
    tiles = len(tiled.grid.windows)
    tiled.most_tiles = 5
    assert tiled.evaluations_left == tiled.steps * tiles
    while not tiled.done:
        left, runs, run_now = tiled.evaluations_left, tiled.runs_left, len(tiled.tiles())
        assert tiled.rows == run_now * tiled.least_rows
        advance_tiles(local_network, [tiled], torch.float32)
        assert (left - tiled.evaluations_left, runs - tiled.runs_left) == (run_now, 1)
    assert tiled.evaluations_left == tiled.runs_left == 0


def test_controls_of_a_tile_are_asked_for_its_window() -> None:
    asked = []

    def controls(window: tuple[slice, slice]) -> tuple[Control, ...]:
        asked.append(window)
        return ()

    tiled = in_tiles(state("euler"), 16, 4)
    tiled.tile_controls = controls
    tiled.tiles()
    assert asked == []  # no ControlNet is active
