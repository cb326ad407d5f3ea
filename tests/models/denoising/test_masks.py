"""Inpainting masks: their size in latents, and the pixels they keep."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.denoising.masks import latent_mask, restore_unmarked

factors = st.sampled_from((2, 4, 8, 16, 32))
sides = st.integers(1, 6)


@given(sides, sides, factors, st.lists(st.tuples(st.integers(0), st.integers(0)), max_size=5))
def test_latents_with_a_marked_pixel_are_marked_and_no_others(
    h: int, w: int, factor: int, places: list[tuple[int, int]]
) -> None:
    mask, expected = torch.zeros(1, h * factor, w * factor), torch.zeros(1, h, w)
    for y, x in places:
        y, x = y % (h * factor), x % (w * factor)
        mask[0, y, x] = expected[0, y // factor, x // factor] = 1
    assert torch.equal(latent_mask(mask, (h, w)), expected)


def test_threshold_of_grey_values() -> None:
    mask = torch.tensor([0, 1, 127, 128, 200, 255]).reshape(1, 1, 6) / 255
    assert latent_mask(mask, (1, 6)).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert latent_mask(mask, (1, 3)).flatten().tolist() == [0, 1, 1]


def test_every_level_is_restored_exactly() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).repeat(1, 1, 3)
    original = levels.float().movedim(-1, 0) / 255 * 2 - 1
    decoded = torch.full((16, 16, 3), 77, dtype=torch.uint8)
    mask = torch.zeros(1, 16, 16)
    assert torch.equal(restore_unmarked(decoded, original, mask), levels)
    assert torch.equal(restore_unmarked(decoded, original, mask + 1), decoded)
    mask[0, 3, 5] = 0.6
    restored = restore_unmarked(decoded, original, mask)
    assert restored[3, 5].tolist() == [77, 77, 77]
    restored[3, 5] = levels[3, 5]
    assert torch.equal(restored, levels)


def test_depth_is_not_restored() -> None:
    decoded = torch.randint(0, 256, (8, 8, 5), dtype=torch.uint8)
    restored = restore_unmarked(decoded, torch.ones(3, 8, 8), torch.zeros(1, 8, 8))
    assert (restored[..., :3] == 255).all()
    assert torch.equal(restored[..., 3:], decoded[..., 3:])
