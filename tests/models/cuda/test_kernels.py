"""Our Triton kernels against PyTorch's operators: in the interpreter here, compiled on a GPU.

float32 results may differ by the order of additions; half precision by one rounding more, as
PyTorch rounds between its operators and a fused kernel does not.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.cuda.fused import autotune_fused, autotune_slot_update
from models.denoising.slot_update import COLUMNS, slot_update
from models.networks.layers import NormSiLU, norm_silu
from models.networks.unet import GEGLU, geglu
from models.pipeline import LatentDiffusion
from models.samplers.table import HISTORY
from tests.models.cuda.test_graphs import inputs

pytest.importorskip("triton", reason="Triton has packages for Linux only")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCES = {torch.float32: 2e-5, torch.float16: 4e-3}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def close(ours: Tensor, exact: Tensor) -> None:
    tolerance = TOLERANCES[ours.dtype]
    torch.testing.assert_close(ours.double(), exact, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "mean"), [(torch.float32, 50.0), (torch.float16, 0.5)])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((2, 64, 8, 8), 32),
        ((1, 96, 5, 7), 32),  # neither a power of two
        ((1, 160, 5, 9), 32),  # more channels than a tile
        ((1, 8, 65, 64), 2),  # more tiles than are merged at a time
        ((1, 4, 1, 1), 2),  # groups of two values
    ],
)
def test_norm_and_silu(
    shape: tuple[int, int, int, int], groups: int, dtype: torch.dtype, mean: float
) -> None:
    from models.cuda.kernels.norm_silu import norm_silu as fused

    x = (random(*shape) * 3 + mean).to(dtype)  # not channels-last yet
    weight, bias = (random(shape[1], seed=seed).to(dtype) for seed in (1, 2))
    ours = fused(x, weight, bias, groups, 1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    close(ours, norm_silu(x.double(), weight.double(), bias.double(), groups, 1e-5))


def test_norm_and_silu_of_a_row_does_not_depend_on_other_rows() -> None:
    from models.cuda.kernels.norm_silu import norm_silu as fused

    x, weight, bias = random(3, 40, 9, 9), random(40), random(40)
    together = fused(x, weight, bias, 8, 1e-5)
    for row in range(3):
        assert torch.equal(fused(x[row : row + 1], weight, bias, 8, 1e-5)[0], together[row])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [(2, 5, 80), (3, 3000), (1, 1, 2)])
def test_geglu(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    from models.cuda.kernels.geglu import geglu as fused

    projected = (3 * random(*shape)).to(dtype)
    close(fused(projected), geglu(projected.double()))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (30, 40)])
def test_slot_update(size: tuple[int, int], dtype: torch.dtype) -> None:
    """In float32 throughout; only the network's outputs have `dtype`."""
    from models.cuda.kernels.slot_update import slot_update as fused

    shape = (3, 4, *size)
    x, positive, negative, blank, fresh, latents, unit = (random(*shape, seed=s) for s in range(7))
    history = random(3, HISTORY, 4, *size, seed=6)
    mask = (random(3, 1, *size, seed=7) > 0).float()
    outputs = (positive.to(dtype), negative.to(dtype), blank.to(dtype))
    coefficients = random(3, COLUMNS + HISTORY, seed=8)
    rest = (history, fresh, mask, latents, unit, coefficients)
    ours = fused(x, *outputs, *rest)
    exact = slot_update(x, *outputs, *rest)
    for got, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=2e-5)


def test_autotuned_slot_update_equals_the_reference() -> None:
    chosen = autotune_slot_update((4, 8, 8), 2, DEVICE)
    assert chosen.__name__ == slot_update.__name__  # in PyTorch's operators, or our kernel


@pytest.mark.parametrize("measured", [False, pytest.param(True, marks=pytest.mark.long)])
def test_fused_kernels_replace_the_operators(tiny_sd: LatentDiffusion, measured: bool) -> None:
    """With the measured choices and with all kernels the UNet's output is the same."""
    from models.cuda.kernels.geglu import geglu as fused_geglu
    from models.cuda.kernels.norm_silu import norm_silu as fused_norm_silu

    tolerance = 1e-4 if DEVICE.type == "cpu" else 1e-2  # convolutions on a GPU round to tf32
    unet = copy.deepcopy(tiny_sd.unet).to(DEVICE)
    given = tuple(t.to(DEVICE) for t in inputs(unet, 2))
    expected = unet(*given)
    if measured:
        choices = autotune_fused(unet, lambda: unet(*given))
        assert set(choices.values()) <= {"torch", "triton"}
        assert len(choices) == 9  # seven shapes of feature maps and two of gates
    else:
        for layer in unet.modules():
            if isinstance(layer, NormSiLU):
                layer.kernel = fused_norm_silu
            elif isinstance(layer, GEGLU):
                layer.kernel = fused_geglu
    torch.testing.assert_close(unet(*given), expected, atol=tolerance, rtol=tolerance)


def test_every_kernel_compiles_for_hopper(tmp_path: Path) -> None:
    """The interpreter accepts code that the compiler may not; the compiler needs no GPU."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compile_kernels.py"))],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    compiled = set(ran.stdout.split())
    assert compiled == {"_moments", "_merge", "_apply", "_geglu", "_update", "_quantise"}


def test_without_triton_the_operators_stay() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import models.cuda.fused, models.cuda.fp8, torch\n"
        "assert models.cuda.fused.autotune_fused(torch.nn.Identity(), lambda: None) == {}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
