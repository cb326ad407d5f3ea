"""Soft masks and masked content, beside a loop over the sampler's table in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.denoising.denoiser import Conditioning, DenoisingState, advance
from models.denoising.masks import MaskedContent, first_rows
from models.denoising.noise import ImageNoise
from models.samplers import SamplerTable, compile_table
from models.samplers.noise_schedule import NoiseSchedule
from models.samplers.table import apply, known, start
from protocol.request.samplers import SAMPLER_TITLES

SHAPE = (2, 3, 4)
CPU = torch.device("cpu")
STRENGTHS = torch.linspace(0, 1, 12).reshape(1, 3, 4)


def network(
    x: Tensor,
    timestep: Tensor,
    context: object = None,
    added: object = None,
    controls: object = None,
) -> Tensor:
    return 0.3 * x + 0.1 * torch.sin(5 * x)


def table_of(sampler: str, steps: int = 6, strength: float | None = 0.8) -> SamplerTable:
    return compile_table(sampler, "leading", steps, NoiseSchedule(), strength)


def begin(table: SamplerTable, source: Tensor, **changed: Any) -> DenoisingState:
    options: dict[str, Any] = {"mask": STRENGTHS, "soft_mask": True, **changed}
    conditioning = Conditioning(torch.zeros(1, 1))
    noise = ImageNoise(3, SHAPE)
    return DenoisingState.start(table, noise, CPU, conditioning, source=source, **options)


def expected(table: SamplerTable, source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Generate a latent in the last rows only, a share of them as large as its strength."""
    noise = ImageNoise(3, SHAPE)
    unit = noise.sample(CPU).numpy()
    history: tuple[NDArray[np.float64], ...] = ()
    x = start(table, source, unit)
    rows, last = len(table), np.zeros(SHAPE)
    for row in range(rows):
        fresh = np.zeros(SHAPE)
        if table.noise[row]:
            before, last = last, noise.sample(CPU).double().numpy()
            fresh = last + table.carried_noise[row] * before
        output = network(torch.tensor(table.input_scale[row] * x), torch.zeros(1)).numpy()
        x, history = apply(table, row, x, output, history, fresh)
        strength = STRENGTHS.numpy().astype(float)
        free = row >= rows * (1 - strength)
        if table.carried_noise[row]:  # a latent is not generated from the middle of a step on
            free = row - 1 >= rows * (1 - strength)
        x = np.where(free, x, known(table, row, source, unit))
    return x


@pytest.mark.parametrize("sampler", sorted(SAMPLER_TITLES))
def test_grey_is_the_share_of_rows_that_generate(sampler: str) -> None:
    table, source = (
        table_of(sampler),
        torch.randn(SHAPE, generator=torch.Generator().manual_seed(1)),
    )
    state = begin(table, source)
    while not state.done:
        advance(network, [state], torch.float32)
    wanted = expected(table, source.double().numpy())
    np.testing.assert_allclose(state.x.numpy(), wanted, atol=2e-4, rtol=2e-4)


def test_a_soft_mask_of_black_and_white_is_a_hard_one() -> None:
    table, source, mask = table_of("dpmpp_2m"), torch.randn(SHAPE), (STRENGTHS > 0.5).float()
    soft, hard = (begin(table, source, mask=mask, soft_mask=is_soft) for is_soft in (True, False))
    while not soft.done:
        advance(network, [soft, hard], torch.float32)
    assert torch.equal(soft.x, hard.x)


def test_a_latent_of_strength_zero_is_never_generated() -> None:
    table = table_of("euler")
    rows = first_rows(torch.tensor([0.0, 1 / 255, 0.5, 254 / 255, 1.0]), table)
    assert rows.tolist() == [len(table), len(table), 2, 1, 0]


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_content_replaces_the_source_at_the_start_only(noise: float) -> None:
    table, source = table_of("euler"), torch.randn(SHAPE)
    mask = (STRENGTHS > 0.5).float()
    content = MaskedContent(mask, noise)
    state = begin(table, source, mask=mask, soft_mask=False, content=content)
    unit = ImageNoise(3, SHAPE).sample(CPU)
    held = torch.where(mask > 0, noise * unit, source)
    torch.testing.assert_close(state.x, table.start_noise * unit + table.start_signal * held)
    assert state.known is not None
    assert torch.equal(state.known.latents, source)


def test_initial_noise_is_multiplied() -> None:
    table, source = table_of("euler"), torch.randn(SHAPE)
    unit = ImageNoise(3, SHAPE).sample(CPU)
    state = begin(table, source, noise_multiplier=0.9)
    expected_x = table.start_noise * 0.9 * unit + table.start_signal * source
    torch.testing.assert_close(state.x, expected_x)
