"""Attention kernels equal the definition, and autotuning changes only the speed."""

from __future__ import annotations

import logging

import pytest
import torch
from torch.nn.attention import SDPBackend

from models.networks.attention import (
    HEAD_SIZES,
    Attention,
    Kernel,
    attention_layers,
    autotune_attention,
    available_kernels,
    pad_heads,
    reference,
    sdpa,
    sdpa_with,
    use_kernel,
)
from models.pipeline import LatentDiffusion

# The kernels of this machine, and the wrappers used on a GPU applied to kernels of a CPU.
ADDED = {
    "math": sdpa_with(SDPBackend.MATH),
    "flash": sdpa_with(SDPBackend.FLASH_ATTENTION),
    "sdpa, padded": pad_heads(sdpa, HEAD_SIZES),
    "definition, padded": pad_heads(reference, HEAD_SIZES),
}


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (64, 77), (1, 154)])
@pytest.mark.parametrize(
    ("name", "head_size"),
    [
        (name, size)
        for name in ("sdpa", *ADDED)
        for size in (8, 40, 64, 80, 160)
        if not ("padded" in name and size in HEAD_SIZES)
    ],
)
def test_kernel_is_softmax_attention(name: str, queries: int, keys: int, head_size: int) -> None:
    torch.manual_seed(head_size)
    q = torch.randn(2, queries, 3, head_size)
    k, v = torch.randn(2, 2, keys, 3, head_size)
    _agrees({"sdpa": sdpa, **ADDED}[name], q, k, v, tolerance=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("head_size", [40, 64, 80, 160, 512])
@pytest.mark.parametrize(("queries", "keys"), [(256, 256), (1024, 77)])
@pytest.mark.parametrize("name", [n for n in available_kernels() if n != "reference"])
def test_kernel_is_softmax_attention_on_a_gpu(
    name: str, queries: int, keys: int, head_size: int
) -> None:
    torch.manual_seed(head_size)
    q = torch.randn(2, queries, 8, head_size, device="cuda", dtype=torch.float16)
    k, v = torch.randn(2, 2, keys, 8, head_size, device="cuda", dtype=torch.float16)
    try:
        _agrees(available_kernels()[name], q, k, v, tolerance=5e-3)
    except (RuntimeError, ValueError, NotImplementedError) as refusal:
        pytest.skip(f"{name} does not take heads of {head_size}: {refusal}")


def _agrees(
    kernel: Kernel, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tolerance: float
) -> None:
    """Compare with the definition: unchanged, with another scale, and causal if defined."""
    pairs = [
        (kernel(q, k, v), reference(q, k, v)),
        (kernel(q, k, v, scale=0.3), reference(q, k, v, scale=0.3)),
    ]
    if q.shape == k.shape:
        pairs.append((kernel(q, k, v, causal=True), reference(q, k, v, causal=True)))
    for ours, expected in pairs:
        torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("head_size", [64, 300])
def test_head_of_a_padded_size_is_refused(head_size: int) -> None:
    """Otherwise a kernel would be measured twice under two names."""
    q = torch.zeros(1, 2, 1, head_size)
    with pytest.raises(ValueError, match=f"head of {head_size}"):
        pad_heads(sdpa, HEAD_SIZES)(q, q, q)


def test_causal_reference_averages_past_values() -> None:
    q = k = torch.zeros(1, 3, 1, 2)
    v = torch.tensor([[3.0, 0], [5, 2], [7, 4]])[None, :, None]
    assert reference(q, k, v)[0, :, 0].tolist() == [[5, 2]] * 3
    assert reference(q, k, v, causal=True)[0, :, 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_autotune_measures_every_layer_and_logs_the_choice(
    tiny_sd: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    unet, x = tiny_sd.unet, torch.randn(2, 4, 8, 8)
    assert unet.config.cross_attention_dim is not None
    context = torch.randn(2, 77, unet.config.cross_attention_dim)

    def forward() -> torch.Tensor:
        return unet(x, torch.tensor([1.0, 2.0]), context)

    before = forward()
    with caplog.at_level(logging.INFO):
        choices = autotune_attention(unet, forward)
    assert "attention kernels" in caplog.text
    # One head size (32 channels of 4 heads; 64 of 4 in the middle), self and cross attention.
    assert len(choices) == 4
    assert set(choices.values()) <= set(available_kernels())
    torch.testing.assert_close(forward(), before)


def test_use_kernel_sets_every_layer() -> None:
    module = torch.nn.ModuleList([Attention(16, 2), torch.nn.ModuleList([Attention(8, 1, 4)])])
    use_kernel(module, reference)
    assert [layer.kernel for layer in attention_layers(module)] == [reference, reference]
    use_kernel(module, sdpa)
    assert all(layer.kernel is sdpa for layer in attention_layers(module))
