"""Low-rank changes of a network's weights, and their file in the published layout.

A layer computes with W + up · down, so the change can be merged or added later (Hu et al. 2022,
section 4.1). Keys are those of kohya's scripts, which published LCM-LoRAs have:
`lora_unet_mid_block_…_to_q.lora_down.weight`, `.lora_up.weight` and `.alpha`, the share of the rank
by which a change is multiplied.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

# Layers outside the blocks are few and small; published LoRAs leave them as they are.
_BLOCKS = ("down_blocks.", "mid_block.", "up_blocks.")


class LowRankChange(nn.Module):
    """W -> W + up · down, for the matrix of a linear layer or the kernels of a convolution."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs, *kernel = weight.shape
        self.down = nn.Parameter(torch.empty(rank, inputs, *kernel))
        self.up = nn.Parameter(torch.zeros(outputs, rank, *(1 for _ in kernel)))
        nn.init.normal_(self.down, std=1 / rank)

    def forward(self, weight: Tensor) -> Tensor:
        change = self.up.flatten(1) @ self.down.flatten(1)
        return weight + change.view(weight.shape)


class LowRankCopy:
    """A copy of a network with a change of low rank in every layer of its blocks.

    Only the parameters of `module` are trained; at first it computes what the network does.
    """

    def __init__(self, network: nn.Module, rank: int) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.rank = rank
        self.changes: dict[str, LowRankChange] = {}
        for path, layer in list(self.network.named_modules()):
            if path.startswith(_BLOCKS) and isinstance(layer, nn.Linear | nn.Conv2d):
                change = LowRankChange(layer.weight, rank).to(layer.weight.device)
                parametrize.register_parametrization(layer, "weight", change)
                self.changes[path] = change
        self.module = nn.ModuleList(self.changes.values())

    def tensors(self, strength: float) -> dict[str, Tensor]:
        """Return the tensors of the file, in half precision; `strength` 1 is the trained change."""
        tensors: dict[str, Tensor] = {}
        for path, change in self.changes.items():
            name = "lora_unet_" + path.replace(".", "_")
            tensors[f"{name}.lora_down.weight"] = change.down
            tensors[f"{name}.lora_up.weight"] = change.up
            tensors[f"{name}.alpha"] = torch.tensor(strength * self.rank)
        return {name: t.detach().half().cpu().contiguous() for name, t in tensors.items()}

    def save(self, file: Path, strength: float = 1.0) -> None:
        """Write the file of the change, times `strength`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(self.tensors(strength), file)
        file.chmod(0o644)
