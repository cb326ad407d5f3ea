"""Autotuning: choose between functions that compute the same by measuring them where they will run.

Some layers do their work through an attribute `kernel`, so that nothing global changes while a
model runs. Each such layer gets the kernel that is fastest for the inputs it really gets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Call = Callable[[], object]
Kernel = Callable[..., Any]

MARGIN = 0.03  # by which a kernel must be faster than the first to replace it

# Errors of kernels that do not support some inputs or this machine.
UNSUITABLE = (NotImplementedError, ValueError, TypeError, RuntimeError, ImportError)


class Layer(Protocol):
    """A layer that does its work by calling `kernel`."""

    kernel: Any


def autotune(
    label: str, layers: Sequence[Layer], kernels: Mapping[str, Kernel], forward: Call
) -> dict[str, str]:
    """Give each layer the kernel that is fastest for the inputs that it gets from `forward`.

    `forward` runs the layers once on representative inputs, with the first of `kernels`, which must
    support all of them. Returns the choices by a readable shape and logs them with `label`. A layer
    that `forward` does not reach gets the first kernel.
    """
    first = next(iter(kernels.values()))
    seen: list[tuple[Layer, str]] = []
    calls: dict[str, tuple[torch.device, Callable[[Kernel], Call]]] = {}

    def record(layer: Layer) -> Kernel:
        def run(*arguments: Any, **named: Any) -> Any:
            shape = _describe(arguments)
            seen.append((layer, shape))
            if shape not in calls:
                calls[shape] = (
                    next(a.device for a in arguments if isinstance(a, Tensor)),
                    lambda kernel: lambda: kernel(*arguments, **named),
                )
            return first(*arguments, **named)

        return run

    for layer in layers:
        layer.kernel = record(layer)
    try:
        with torch.inference_mode():
            forward()
            choices = {
                shape: fastest({n: call(k) for n, k in kernels.items()}, device, f"{label} {shape}")
                for shape, (device, call) in calls.items()
            }
    finally:
        for layer in layers:
            layer.kernel = first
    for layer, shape in seen:
        layer.kernel = kernels[choices[shape]]
    log.info("%s kernels: %s", label, choices)
    return choices


def fastest(calls: Mapping[str, Call], device: torch.device, label: str) -> str:
    """Return the name of the call that takes least time; calls that fail are left out and logged.

    The first is kept unless another is faster by `MARGIN`: two that are equally fast may round
    differently, and noise should not decide between them. Raises RuntimeError if all fail.
    """
    if len(calls) == 1:
        return next(iter(calls))
    times: dict[str, float] = {}
    for name, call in calls.items():
        try:
            times[name] = time_call(call, device)
        except UNSUITABLE as error:
            log.info("%s: %s left out: %s", label, name, error)
    if not times:
        raise RuntimeError(f"{label}: none of {', '.join(calls)} works here")
    best = min(times, key=times.__getitem__)
    first = next(iter(times))
    return best if times[best] < (1 - MARGIN) * times[first] else first


def time_call(call: Call, device: torch.device) -> float:
    """Return the best time of one call in seconds; on a GPU that of its kernels inside a graph."""
    if device.type != "cuda":
        return time_repeated(call, device)
    calls = 10  # in a graph, so that the start of a replay has little weight
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        call()
        call()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        for _ in range(calls):
            call()
    return time_repeated(graph.replay, device) / calls


def time_repeated(call: Call, device: torch.device, limit_s: float = 0.1) -> float:
    """Return the best time of a call in seconds, after one to warm up.

    Of ten calls, or of as many as fit into `limit_s`.
    """
    call()
    times: list[float] = []
    while len(times) < 10 and sum(times) < limit_s:
        times.append(_once(call, device))
    return min(times)


def _once(call: Call, device: torch.device) -> float:
    if device.type != "cuda":
        started = time.perf_counter()
        call()
        return time.perf_counter() - started
    started_at, ended_at = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    started_at.record()
    call()
    ended_at.record()
    ended_at.synchronize()
    milliseconds: float = started_at.elapsed_time(ended_at)
    return milliseconds / 1000


def _describe(arguments: Sequence[Any]) -> str:
    """Return the shapes of the tensors of a call and their dtype, as a key and for the log."""
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    shapes = " ".join("x".join(map(str, t.shape)) for t in tensors)
    return f"{shapes} {str(tensors[0].dtype).removeprefix('torch.')}"
