"""Random changes by LyCORIS' own modules: their files, and the outputs of the changed layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lycoris.modules import (
    FullModule,
    LoConModule,
    LohaModule,
    LokrModule,
    NormModule,
)
from torch import Tensor, nn

RANK, ALPHA = 4, 2.0

# Module and options of each kind of change, as trainers write them.
KINDS: Mapping[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "LoCon": (LoConModule, {}),
    "LoCon with core": (LoConModule, {"use_tucker": True}),
    "LoCon, rank-stabilised": (LoConModule, {"rs_lora": True}),
    "LoHa": (LohaModule, {}),
    "LoHa with cores": (LohaModule, {"use_tucker": True}),
    "LoKr": (LokrModule, {}),
    "LoKr, both of low rank": (LokrModule, {"decompose_both": True, "factor": 16, "lora_dim": 1}),
    "LoKr, both whole": (LokrModule, {"full_matrix": True}),
    "LoKr with core": (LokrModule, {"use_tucker": True, "lora_dim": 2, "factor": 4}),
    "LoKr, factor of 8": (LokrModule, {"factor": 8, "lora_dim": 2}),
    "LoKr, unbalanced": (LokrModule, {"unbalanced_factorization": True, "factor": 4}),
    "full difference": (FullModule, {}),
    "DoRA of rows": (LoConModule, {"weight_decompose": True}),
    "DoRA of columns": (LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    "LoHa, DoRA of rows": (LohaModule, {"weight_decompose": True}),
    "LoHa, DoRA of columns": (LohaModule, {"weight_decompose": True, "wd_on_out": False}),
    "LoKr, DoRA of rows": (LokrModule, {"weight_decompose": True}),
    "LoKr, DoRA of columns": (LokrModule, {"weight_decompose": True, "wd_on_out": False}),
}


def change(kind: str, layer: nn.Module, seed: int) -> nn.Module:
    """Return a random change of `layer`, or of a norm whatever the kind."""
    module, options = KINDS[kind]
    if isinstance(layer, nn.LayerNorm | nn.GroupNorm):
        module, options = NormModule, {}
    torch.manual_seed(seed)
    made = module("", layer, **{"lora_dim": RANK, "alpha": ALPHA, **options})
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name == "dora_scale":
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
            else:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return made


def tensors(change: nn.Module, name: str) -> dict[str, Tensor]:
    """Return a change as its trainer writes it for the layer `name`."""
    if isinstance(change, FullModule):
        own = {"diff": change.weight, "diff_b": change.bias}
    else:
        own = change.custom_state_dict() or dict(change.named_parameters())  # type: ignore[operator]
    return {
        f"{name}.{key}": value.detach().clone() for key, value in own.items() if value is not None
    }


@torch.no_grad()
def output(change: nn.Module, x: Tensor, strength: float) -> Tensor:
    """Return the output of the changed layer, by LyCORIS' own forward."""
    change.multiplier = strength  # type: ignore[assignment]
    result = change(x)
    assert isinstance(result, Tensor)
    return result
