"""Recorded batches: padding, splitting, caching; and a row's bits in every batch.

A recorder that records nothing replaces CUDA's: it runs the function again, over the same fixed
memory, which is all that a graph does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.cuda.agreement import group_by_bits
from models.cuda.graphs import Graphed, GraphRecorder, Recorder, Replay
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion


def again(run: Callable[[], None]) -> Replay:
    return run


class Counted:
    """Doubles its input and stores the sizes it is run with."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return 2 * x


def inputs(unet: UNet, rows: int, tokens: int = 77) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 4, 8, 8, generator=generator)
    assert unet.config.cross_attention_dim is not None
    context = torch.randn(rows, tokens, unet.config.cross_attention_dim, generator=generator)
    return x, torch.linspace(0, 999, rows), context


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 9, 20])
def test_any_batch_is_split_into_recorded_sizes(rows: int) -> None:
    network = Counted()
    graphed = Graphed(network, again, same_bytes=False, rows=(2, 4))
    x = torch.randn(rows, 3)
    assert torch.equal(graphed(x), 2 * x)
    assert {*network.sizes} - {1} == {2, 4}  # a single row only where the output's shape is learnt


def test_output_is_kept_when_the_graph_runs_again() -> None:
    graphed = Graphed(Counted(), again, same_bytes=False, rows=(2,))
    first = graphed(torch.ones(2, 3))
    graphed(torch.zeros(2, 3))
    assert torch.equal(first, torch.full((2, 3), 2.0))


def test_most_recent_shapes_are_kept() -> None:
    recorded: list[int] = []

    def record(run: Callable[[], None]) -> Replay:
        recorded.append(1)
        return run

    graphed = Graphed(Counted(), record, same_bytes=False, rows=(1,), max_shapes=2)
    for width in (3, 4, 3, 5, 3, 5):  # 5 takes the place of 4
        graphed(torch.ones(1, width))
    assert len(recorded) == 3
    graphed(torch.ones(1, 4))
    assert len(recorded) == 4


def test_size_without_memory_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    def record(run: Callable[[], None]) -> Replay:
        if not recorded:
            recorded.append(run)
            raise torch.OutOfMemoryError("too large")
        return run

    recorded: list[object] = []
    graphed = Graphed(Counted(), record, same_bytes=False, rows=(2, 4))
    assert graphed.warm_up(torch.ones(1, 3)) == (2,)
    assert "no memory for a graph of 4 rows" in caplog.text
    assert torch.equal(graphed(torch.ones(5, 3)), torch.full((5, 3), 2.0))


def test_no_size_fits_in_memory() -> None:
    def record(run: Callable[[], None]) -> Replay:
        raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError, match="2 rows"):
        Graphed(Counted(), record, same_bytes=False, rows=(2,))(torch.ones(1, 3))


def test_sizes_are_grouped_by_the_bits_they_give() -> None:
    def by_size(x: Tensor) -> Tensor:
        return x * (1 + 1e-7) if len(x) in (2, 4) else x / 3

    def by_place(x: Tensor) -> Tensor:
        return x + torch.arange(len(x))[:, None]

    runs: dict[int, Callable[[Tensor], Tensor]] = dict.fromkeys((1, 2, 4, 8), by_size)
    runs[16] = by_place
    groups = group_by_bits(runs, [torch.randn(16, 100)])
    assert sorted(map(sorted, groups)) == [[1, 8], [2, 4]]


def test_network_with_position_dependent_bits_uses_one_size(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def network(x: Tensor) -> Tensor:
        return x + torch.arange(len(x))[:, None]

    graphed = Graphed(network, again, same_bytes=True, rows=(2, 4))
    assert len(graphed.warm_up(torch.ones(1, 3))) == 1
    assert "no batch size gives a row the same bits" in caplog.text


def test_row_has_the_same_bits_alone_and_in_a_batch(
    tiny_sd: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        same_bytes(tiny_sd.unet, again)
    assert "batch sizes that agree" in caplog.text


@pytest.mark.gpu
def test_row_has_the_same_bits_alone_and_in_a_batch_on_a_gpu(tiny_sd: LatentDiffusion) -> None:
    device = torch.device("cuda")
    unet = UNet(tiny_sd.unet.config).to(device, torch.float16).requires_grad_(False)
    same_bytes(unet, GraphRecorder(device))


def same_bytes(unet: UNet, recorder: Recorder) -> None:
    weight = unet.conv_in.weight
    given = tuple(t.to(weight) for t in inputs(unet, 11))
    graphed = Graphed(unet, recorder, same_bytes=True, rows=(1, 2, 4, 8))
    graphed.warm_up(*given)
    batch = graphed(*given)
    with torch.inference_mode():
        expected = unet(*given)
    tolerance = 1e-4 if weight.dtype == torch.float32 else 1e-2
    torch.testing.assert_close(batch, expected, atol=tolerance, rtol=tolerance)
    for first in range(11):
        for count in (1, 2, 3):
            rows = slice(first, first + count)
            assert torch.equal(graphed(*(t[rows] for t in given)), batch[rows])


def test_prompts_of_other_lengths_have_graphs_of_their_own(tiny_sd: LatentDiffusion) -> None:
    graphed = Graphed(tiny_sd.unet, again, same_bytes=False, rows=(2,))
    for tokens in (77, 154, 77):
        given = inputs(tiny_sd.unet, 2, tokens)
        torch.testing.assert_close(graphed(*given), tiny_sd.unet(*given))
