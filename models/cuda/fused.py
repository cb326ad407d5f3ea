"""Our own kernels in the layers of a network, each only where it measures faster.

Without Triton, which CUDA builds of PyTorch include, PyTorch's operators stay.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from torch import nn

from models.denoising.slot_update import COLUMNS, SlotUpdate, slot_update
from models.networks.attention_autotune import autotune, fastest
from models.networks.layers import NormSiLU, norm_silu
from models.networks.unet import GEGLU, geglu
from models.samplers.table import HISTORY


def autotune_fused(network: nn.Module, forward: Callable[[], object]) -> dict[str, str]:
    """Measure and set the kernels of the norms and gates; return the choices, by shape.

    `forward` runs the network once on representative inputs.
    """
    if find_spec("triton") is None:
        return {}
    from models.cuda.kernels import geglu as fused_geglu
    from models.cuda.kernels import norm_silu as fused_norm_silu

    norms = [layer for layer in network.modules() if isinstance(layer, NormSiLU)]
    gates = [layer for layer in network.modules() if isinstance(layer, GEGLU)]
    kernels = {"torch": norm_silu, "triton": fused_norm_silu.norm_silu}
    choices = autotune("norm and SiLU", norms, kernels, forward)
    if gates:
        gate_kernels = {"torch": geglu, "triton": fused_geglu.geglu}
        choices |= autotune("GEGLU", gates, gate_kernels, forward)
    return choices


def autotune_slot_update(
    shape: tuple[int, int, int], slots: int, device: torch.device
) -> SlotUpdate:
    """Return the faster update for `slots` slots with latents of `shape`, which is (C, h, w)."""
    if find_spec("triton") is None:
        return slot_update
    from models.cuda.kernels import slot_update as fused

    x = torch.randn(slots, *shape, device=device)
    history = x[:, None].repeat(1, HISTORY, 1, 1, 1)
    coefficients = torch.randn(slots, COLUMNS + HISTORY, device=device)
    outputs = (x.half(), x.half(), x.half())
    arguments = (x, *outputs, history, x, torch.ones_like(x[:, :1]), x, x, coefficients)
    kernels: dict[str, SlotUpdate] = {"torch": slot_update, "triton": fused.slot_update}
    calls = {name: partial(kernel, *arguments) for name, kernel in kernels.items()}
    return kernels[fastest(calls, device, "slot update")]
