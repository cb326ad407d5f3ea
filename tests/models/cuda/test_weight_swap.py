"""Merged models share one recording: each computes with its own weights, in any order."""

from __future__ import annotations

import gc
import random
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.cuda.graphs import Graphed, GraphRecorder, Recorder
from models.executors.base import Network, denoiser
from models.executors.merged import run_like
from models.networks.sharing import with_weights
from models.pipeline import LatentDiffusion
from tests.models.cuda.test_graphs import again


def merged(network: Network, seed: int, share: float) -> Network:
    """Return the same network with other values in about this share of its matrices."""
    dice = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    changed: dict[str, Tensor] = {}
    for name, parameter in network.module.named_parameters():
        if parameter.ndim > 1 and dice.random() < share:
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            changed[name] = torch.empty_like(parameter).copy_(parameter + 0.1 * noise)
    return replace(network, module=with_weights(network.module, changed))


def check_merged(network: Network, recorder: Recorder, tolerance: float) -> None:
    base = Graphed(network.module, recorder, same_bytes=True, rows=(2, 4))
    networks = [network, *(merged(network, seed, seed / 4) for seed in range(1, 4))]
    runs = [base, *(run_like(base, other) for other in networks[1:])]
    recorded = {name: p.data_ptr() for name, p in network.module.named_parameters()}
    inputs = network.examples(3)
    with torch.inference_mode():
        exact = [other.module(*inputs) for other in networks]
    first = [run(*inputs) for run in runs]
    for output, expected in zip(first, exact, strict=True):
        torch.testing.assert_close(output, expected, rtol=0, atol=tolerance * float(expected.std()))
    dice = random.Random(0)
    for _ in range(12):
        which = dice.randrange(4)
        assert torch.equal(runs[which](*inputs), first[which])
    # The model's own memory is unchanged.
    assert {name: p.data_ptr() for name, p in network.module.named_parameters()} == recorded
    assert torch.equal(base(*inputs), first[0])


def test_merged_models_take_turns_in_one_memory(tiny_sd: LatentDiffusion) -> None:
    check_merged(denoiser(tiny_sd.unet), again, 1e-4)


def test_deleted_merged_model_is_not_kept_in_memory(tiny_sd: LatentDiffusion) -> None:
    network = denoiser(tiny_sd.unet)
    base = Graphed(network.module, again, same_bytes=False, rows=(2,))
    first, second = (merged(network, seed, 0.5) for seed in (1, 2))
    run, other = run_like(base, first), run_like(base, second)
    inputs = network.examples(2)
    run(*inputs)
    gone = [weakref.ref(p) for p in first.module.parameters()]
    del run, first
    gc.collect()
    shared = {id(p) for p in network.module.parameters()}
    assert all(ref() is None or id(ref()) in shared for ref in gone)
    with torch.inference_mode():
        torch.testing.assert_close(other(*inputs), second.module(*inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
def test_merged_models_of_a_graph_on_the_device(tiny_sd: LatentDiffusion) -> None:
    device = torch.device("cuda")
    network = denoiser(tiny_sd.unet)
    module = with_weights(network.module, {n: p.to(device, torch.float16) for n, p in
                                   network.module.named_parameters()})  # fmt: skip
    moved = replace(
        network, module=module, examples=lambda rows: tuple(
            t.to(device, torch.float16 if t.ndim > 1 else t.dtype) for t in network.examples(rows)
        ),
    )  # fmt: skip
    check_merged(moved, GraphRecorder(device), 0.02)
