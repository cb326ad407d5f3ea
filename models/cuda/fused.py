"""Our own kernels in the layers of a network, each only where it measures faster.

Without Triton, which CUDA builds of PyTorch bring along, PyTorch's operators stay.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from torch import nn

from models.choosing import choose
from models.layers import NormSiLU, norm_silu
from models.unet import GEGLU, geglu


def choose_fused(network: nn.Module, forward: Callable[[], object]) -> dict[str, str]:
    """Measure and set the kernels of the norms and gates of `network`; the choices, by shape.

    `forward` runs the network once on representative inputs.
    """
    if find_spec("triton") is None:
        return {}
    from models.cuda.kernels import geglu as fused_geglu
    from models.cuda.kernels import norm_silu as fused_norm_silu

    norms = [layer for layer in network.modules() if isinstance(layer, NormSiLU)]
    gates = [layer for layer in network.modules() if isinstance(layer, GEGLU)]
    ways = {"torch": norm_silu, "triton": fused_norm_silu.norm_silu}
    choices = choose("norm and SiLU", norms, ways, forward)
    if gates:
        ways_to_gate = {"torch": geglu, "triton": fused_geglu.geglu}
        choices |= choose("GEGLU", gates, ways_to_gate, forward)
    return choices
