"""Gradients computed in parts equal those of the whole batch."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.parallel import PartialGradients


def test_parts_add_up_to_the_whole_batch() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 2, 3))
    x, target = torch.randn(8, 3, 8, 8), torch.randn(8, 2, 4, 4)
    whole = F.mse_loss(network(x), target)
    expected = torch.autograd.grad(whole, list(network.parameters()))

    gradients = PartialGradients(list(network.parameters()))

    def loss(part: Tensor, expected_part: Tensor) -> Tensor:
        return F.mse_loss(network(part), expected_part)

    parts = zip(x.chunk(4), target.chunk(4), strict=True)
    mean = gradients.backward([partial(loss, *part) for part in parts])

    torch.testing.assert_close(mean, whole.item())
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_speed_of_threads_changes_no_bit() -> None:
    torch.manual_seed(0)
    network = nn.Linear(64, 64)
    x = torch.randn(32, 64)
    gradients = PartialGradients(list(network.parameters()))
    seen = set()

    def loss(part: Tensor) -> Tensor:
        return network(part).square().mean()

    for _ in range(5):
        gradients.backward([partial(loss, part) for part in x.chunk(8)])
        assert network.weight.grad is not None
        seen.add(network.weight.grad.numpy().tobytes())
    assert len(seen) == 1
