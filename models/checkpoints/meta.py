"""Networks without weights: the meta device, on which a tensor has a shape and takes no memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

META = torch.device("meta")


@contextmanager
def meta_device() -> Iterator[None]:
    """Build networks on the meta device, without initial values for their parameters."""
    with META, _NoInitialValues():
        yield


class _NoInitialValues(TorchFunctionMode):
    """Skip the functions of torch.nn.init.

    On the meta device `normal_`, which embeddings use, imports PyTorch's compiler for 1.3 seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else named["tensor"]
        return func(*args, **named)
