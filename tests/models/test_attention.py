"""Kernels agree with the definition, and choosing one changes nothing but speed."""

from __future__ import annotations

import logging

import pytest
import torch

from models.attention import (
    Attention,
    attention_layers,
    available_kernels,
    choose_kernels,
    reference,
    sdpa,
    use_kernel,
)
from models.pipeline import LatentDiffusion


@pytest.mark.parametrize("head_size", [8, 40, 64, 80, 160])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (64, 77), (1, 154)])
@pytest.mark.parametrize("name", [n for n in available_kernels() if n != "reference"])
def test_kernel_is_softmax_attention(name: str, queries: int, keys: int, head_size: int) -> None:
    torch.manual_seed(head_size)
    q = torch.randn(2, queries, 3, head_size)
    k, v = torch.randn(2, 2, keys, 3, head_size)
    kernel = available_kernels()[name]
    torch.testing.assert_close(kernel(q, k, v), reference(q, k, v), atol=1e-5, rtol=1e-5)
    if queries == keys:
        ours, expected = kernel(q, k, v, causal=True), reference(q, k, v, causal=True)
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_reference_is_an_average_that_cannot_see_the_future() -> None:
    q = k = torch.zeros(1, 3, 1, 2)
    v = torch.tensor([[3.0, 0], [5, 2], [7, 4]])[None, :, None]
    assert reference(q, k, v)[0, :, 0].tolist() == [[5, 2]] * 3
    assert reference(q, k, v, causal=True)[0, :, 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_choosing_measures_every_layer_and_logs_the_choice(
    tiny_sd: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    unet, x = tiny_sd.unet, torch.randn(2, 4, 8, 8)
    context = torch.randn(2, 77, unet.config.cross_attention_dim)

    def forward() -> torch.Tensor:
        return unet(x, torch.tensor([1.0, 2.0]), context)

    before = forward()
    with caplog.at_level(logging.INFO):
        choices = choose_kernels(unet, forward)
    assert "attention kernels" in caplog.text
    # One head size (32 channels of 4 heads; 64 of 4 at the coarse middle), self and cross.
    assert len(choices) == 4
    assert set(choices.values()) <= set(available_kernels())
    torch.testing.assert_close(forward(), before)


def test_an_override_reaches_every_layer() -> None:
    module = torch.nn.ModuleList([Attention(16, 2), torch.nn.ModuleList([Attention(8, 1, 4)])])
    use_kernel(module, reference)
    assert [layer.kernel for layer in attention_layers(module)] == [reference, reference]
    use_kernel(module, sdpa)
    assert all(layer.kernel is sdpa for layer in attention_layers(module))
