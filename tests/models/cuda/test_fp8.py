"""Matrix products in FP8: within the bound of float8 rounding, row by row, used if exact enough."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.cuda.float8 import LARGEST
from models.cuda.fp8 import Fp8Linear, available, emulated, on_tensor_cores, quantise, quantise_unet
from models.pipeline import LatentDiffusion
from models.tuning.quality import psnr
from tests.models.cuda.test_graphs import inputs

# e4m3 has three bits of mantissa: the error of a normal number is at most 1/16 of it; that of a
# number below the smallest normal, 2**-6, is half of 2**-9.
RELATIVE, ABSOLUTE = 2.0**-4, 2.0**-10


def rounding(x: Tensor) -> Tensor:
    """Return the largest error of quantising each number of x (M, K)."""
    scales = x.abs().amax(1, keepdim=True) / LARGEST
    return torch.maximum(RELATIVE * x.abs(), ABSOLUTE * scales)


def bound(x: Tensor, weight: Tensor) -> Tensor:
    """Return the largest error of a product (M, N) of quantised x (M, K) and weight (N, K)."""
    dx, dw = rounding(x), rounding(weight)
    return dx @ weight.abs().t() + x.abs() @ dw.t() + dx @ dw.t()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_quantisation_error_is_within_rounding(scale: float) -> None:
    x = scale * torch.randn(7, 300, generator=torch.Generator().manual_seed(0)) ** 3
    rows = quantise(x)
    assert rows.values.dtype == torch.float8_e4m3fn
    off = (rows.values.float() * rows.scales - x).abs()
    assert (off <= rounding(x) * (1 + 1e-5)).all()


def test_zeros_and_the_largest_numbers_are_finite() -> None:
    x = torch.tensor([[0.0, 0.0], [65504.0, -65504.0]])
    rows = quantise(x)
    torch.testing.assert_close(rows.values.float() * rows.scales, x)


@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_is_within_the_bound_of_rounding(with_bias: bool) -> None:
    torch.manual_seed(1)
    layer = nn.Linear(320, 640, bias=with_bias)
    x = torch.randn(2, 33, 320)
    ours, exact = Fp8Linear(layer, emulated)(x), layer(x)
    off = (ours - exact).abs().flatten(0, 1)
    allowed = bound(x.flatten(0, 1), layer.weight.detach())
    assert (off <= allowed + 1e-4).all()
    assert off.mean() > 1e-3 * exact.abs().mean()  # it is not simply the layer itself


def test_a_convolution_of_one_pixel_is_a_product() -> None:
    torch.manual_seed(2)
    layer = nn.Conv2d(32, 48, 1)
    x = torch.randn(2, 32, 5, 7)
    ours = Fp8Linear(layer, emulated)(x)
    flat, weight = x.permute(0, 2, 3, 1).flatten(0, 2), layer.weight.detach().flatten(1)
    off = (ours - layer(x)).abs().permute(0, 2, 3, 1).flatten(0, 2)
    assert (off <= bound(flat, weight) + 1e-4).all()


def test_row_does_not_depend_on_other_rows() -> None:
    layer = Fp8Linear(nn.Linear(32, 32), emulated)
    x = torch.randn(4, 32)
    x[3] *= 1000  # with one scale for the tensor, the others would lose all precision
    rows = quantise(x)
    assert torch.equal(quantise(x[:1]).values.float(), rows.values[:1].float())
    torch.testing.assert_close(layer(x)[:2], layer(x[:2]), atol=1e-6, rtol=1e-6)


def test_most_matrices_are_quantised_except_sensitive_ones(
    tiny_sd: LatentDiffusion,
) -> None:
    unet = tiny_sd.unet
    before = {name: p.data_ptr() for name, p in unet.named_parameters()}
    quantised = quantise_unet(unet, emulated)
    changed = {name for name, m in quantised.named_modules() if isinstance(m, Fp8Linear)}
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert {
        "down_blocks.0.attentions.0.proj_in",
        f"{block}.attn1.to_q",
        f"{block}.attn2.to_out.0",
        f"{block}.ff.net.0.proj",
        f"{block}.ff.net.2",
        "down_blocks.1.resnets.0.conv_shortcut",
    } <= changed
    kept = ("conv_in", "conv_out", "time_embedding", "time_emb_proj", "conv1", "conv2")
    assert not [name for name in changed if any(part in name for part in kept)]
    assert not [m for m in unet.modules() if isinstance(m, Fp8Linear)]
    after = {name: p.data_ptr() for name, p in quantised.named_parameters()}
    assert after.items() <= before.items()  # what is not changed is shared


def test_fp8_unet_predicts_nearly_the_same(tiny_sd: LatentDiffusion) -> None:
    given = inputs(tiny_sd.unet, 2)
    exact = tiny_sd.unet(*given)
    ours = quantise_unet(tiny_sd.unet, emulated)(*given)
    error = (ours - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.1


def test_psnr() -> None:
    black = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 255) == pytest.approx(0.0)
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)


def test_fp8_needs_hopper() -> None:
    assert not available(torch.device("cpu"))


def test_the_kernel_quantises_as_the_definition() -> None:
    pytest.importorskip("triton", reason="Triton has packages for Linux only")
    from models.cuda.kernels.quantise import quantise as fused

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = torch.randn(5, 77, generator=torch.Generator().manual_seed(3)).to(device)
    x[2] = 0
    x[3] *= 1e4
    ours, expected = fused(x), quantise(x)
    torch.testing.assert_close(ours.scales, expected.scales, atol=0, rtol=1e-6)
    numbers, expected_numbers = ours.values.float(), expected.values.float()
    equal = numbers == expected_numbers
    if device.type == "cpu":
        # The interpreter loses the carry where rounding results in a power of two.
        equal |= expected_numbers.abs().log2().frac() == 0
    assert equal.all()
    assert equal.numel() > 2 * (numbers != expected_numbers).sum()


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 77, 4096])
def test_tensor_cores_compute_what_is_emulated(rows: int) -> None:
    torch.manual_seed(4)
    layer = nn.Linear(640, 1280, device="cuda", dtype=torch.float16)
    x = torch.randn(rows, 640, device="cuda", dtype=torch.float16)
    ours, expected = Fp8Linear(layer, on_tensor_cores)(x), Fp8Linear(layer, emulated)(x)
    torch.testing.assert_close(ours, expected, atol=2e-2, rtol=2e-2)
