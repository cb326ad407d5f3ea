"""Parts of a UNet through torch.compile: its resnets and transformer blocks, one by one.

A UNet repeats a few kinds of block, so compiling blocks takes a fraction of the time that compiling
the whole takes, and finds the same fusions. Blocks are compiled for a variable number of rows,
because every batch size will use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from models.networks.layers import ResnetBlock
from models.networks.unet import TransformerBlock

# Kinds of block times shapes of their inputs: SDXL has some twenty, and context lengths multiply.
RECOMPILATIONS = 256


def regions(unet: nn.Module) -> Iterator[nn.Module]:
    return (m for m in unet.modules() if isinstance(m, ResnetBlock | TransformerBlock))


def compile_regions(unet: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Let the blocks run compiled from now on; each is compiled when it first runs."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILATIONS)
    for block in regions(unet):
        block.compile(backend=backend, dynamic=None)


def release_regions(unet: nn.Module) -> None:
    """Let the blocks run uncompiled again."""
    for block in regions(unet):
        block._compiled_call_impl = None
