"""Blocks through torch.compile compute the same, and a kind of block is compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule

from models.cuda.regions import compile_regions, regions, release_regions
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from tests.models.cuda.test_graphs import inputs


@pytest.fixture(autouse=True)
def unpatched_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo at the end what the first compilation does to `nn.Module`: it doubles the time in which
    later tests build networks."""
    for name in ("__init__", "__setstate__"):
        monkeypatch.setattr(nn.Module, name, getattr(nn.Module, name))
    monkeypatch.setattr(nn.Module, "___needs_generation_tag_patch", True, raising=False)


def test_compiled_blocks_compute_the_same_and_equal_blocks_share_code(
    tiny_sd: LatentDiffusion,
) -> None:
    compiled: list[GraphModule] = []

    def backend(graph: GraphModule, _: list[Any]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    unet = UNet(tiny_sd.unet.config).eval()
    torch._dynamo.reset()
    given = inputs(unet, 2)
    with torch.inference_mode():
        expected = unet(*given)
        compile_regions(unet, backend)
        torch.testing.assert_close(unet(*given), expected)
        blocks = len(list(regions(unet)))
        first = len(compiled)
        assert 0 < first < blocks  # some are equal
        unet(*inputs(unet, 3))
        again = len(compiled)
        unet(*inputs(unet, 4))
        unet(*inputs(unet, 8))
        assert len(compiled) == again  # the number of rows is free by now
        release_regions(unet)
        unet(*inputs(unet, 2, tokens=154))
        assert len(compiled) == again
    torch._dynamo.reset()
