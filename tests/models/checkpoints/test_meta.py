"""Networks on the meta device are built without initial values."""

import pytest
import torch
from torch import nn

from models.checkpoints.meta import META, meta_device


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 8)
        self.convolution = nn.Conv2d(8, 8, 3)
        self.linear = nn.Linear(8, 2)
        self.scale = nn.Parameter(nn.init.constant_(torch.empty(3), val=2.0))


def test_shapes_are_known_and_no_initial_value_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("an initial value was computed")

    for name in ("_no_grad_normal_", "_no_grad_uniform_", "_no_grad_fill_"):
        monkeypatch.setattr(nn.init, name, fail)
    for name in ("normal_", "uniform_"):
        monkeypatch.setattr(torch.Tensor, name, fail)
    with meta_device():
        network = Network()
    assert {parameter.device for parameter in network.parameters()} == {META}
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [
        (3,), (4, 8), (8, 8, 3, 3), (8,), (2, 8), (2,),
    ]  # fmt: skip


def test_networks_built_afterwards_have_initial_values() -> None:
    with meta_device():
        Network()
    assert Network().embedding.weight.std() > 0
