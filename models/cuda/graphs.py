"""A network recorded as CUDA graphs, one for each batch size, and replayed.

Launching the roughly 800 kernels of a Stable Diffusion 1.5 UNet one by one takes longer than a
small batch takes to compute; a graph is one launch. It works on its own memory: inputs are copied
in, the output is copied out. Graphs are kept per shape of a row (latent size, context length), and
the least recently used are dropped beyond a limit.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from models.cuda.agreement import group_by_bits
from models.cuda.rows import ROWS, choose_group, plan, sufficient
from models.cuda.weight_swap import SwappedRun, WeightSwap
from models.executors.base import Network, Run
from models.networks.attention_autotune import time_repeated

log = logging.getLogger(__name__)

Shape = tuple[tuple[int, ...], ...]  # of each input, without its rows
Replay = Callable[[], object]


class Recorder(Protocol):
    """Records a function that works on fixed memory; the result does the same faster."""

    def __call__(self, run: Callable[[], None]) -> Replay: ...


class GraphRecorder:
    """Records CUDA graphs that share one pool of memory, as they never run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        # Kernels keep the priority of the stream they were recorded on: denoising has the higher.
        self._stream = torch.cuda.Stream(device, priority=-1)

    def __call__(self, run: Callable[[], None]) -> Replay:
        """Record `run`, after runs in which libraries select and prepare their kernels."""
        now = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(now)
        with torch.cuda.stream(self._stream):
            for _ in range(3):
                run()
        now.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            run()
        return graph.replay


class Recording:
    """The graphs for rows of one shape, over the same fixed inputs and output."""

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        output: Tensor,
        replays: dict[int, Replay],
        seconds: dict[int, float],
    ) -> None:
        """Store `replays` and the `seconds` they take, both by batch size."""
        self.seconds = seconds
        self._inputs = inputs
        self._output = output
        self._replays = replays
        self._plans: dict[int, list[int]] = {}

    def only(self, sizes: Collection[int]) -> Recording:
        """Return the same recording with the graphs of `sizes` only."""
        return Recording(
            self._inputs,
            self._output,
            {size: self._replays[size] for size in sizes},
            {size: self.seconds[size] for size in sizes},
        )

    def plan(self, rows: int) -> list[int]:
        if rows not in self._plans:
            self._plans[rows] = plan(rows, self.seconds)
        return self._plans[rows]

    def run(self, size: int, *inputs: Tensor) -> Tensor:
        """Run up to `size` rows; the result is in fixed memory, valid until the next run.

        Missing rows repeat the last one, whose values are valid.
        """
        rows = len(inputs[0])
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed[:rows].copy_(given)
            if rows < size:
                fixed[rows:size].copy_(given[-1:].expand(size - rows, *given.shape[1:]))
        self._replays[size]()
        return self._output[:rows]


class Graphed:
    """A network run by its graphs: inputs (N, …) each -> output (N, …), for any N.

    With `same_bytes`, only batch sizes that give a row the same bits are used, so that an image
    does not depend on the others in its batch.
    """

    name = "cuda-graphs"

    def __init__(
        self,
        network: Callable[..., Tensor],
        record: Recorder,
        *,
        same_bytes: bool,
        rows: Sequence[int] = ROWS,
        max_shapes: int = 8,
    ) -> None:
        """Keep graphs of at most `max_shapes` shapes, `len(rows)` at most for each."""
        self._network = network
        self._record = record
        self._same_bytes = same_bytes
        self._rows = tuple(sorted(rows, reverse=True))
        self._max_shapes = max_shapes
        self._recordings: OrderedDict[Shape, Recording] = OrderedDict()
        self._swap: WeightSwap | None = None
        self.rows_run = 0  # since the start, padding included

    def with_weights(self, network: Network) -> Run:
        """Return the run of a merged model; all of them share one more recording.

        It is made when the first of them runs.
        """
        if self._swap is None:
            self._swap = WeightSwap(network, self._like_this)
        return SwappedRun(self._swap, network)

    def _like_this(self, module: nn.Module) -> Graphed:
        return Graphed(
            module,
            self._record,
            same_bytes=self._same_bytes,
            rows=self._rows,
            max_shapes=self._max_shapes,
        )

    @torch.inference_mode()
    def warm_up(self, *inputs: Tensor) -> tuple[int, ...]:
        """Record graphs for rows like those of `inputs`, of any valid values; return the sizes."""
        return tuple(sorted(self._recording(inputs).seconds))

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        recording = self._recording(inputs)
        sizes = recording.plan(len(inputs[0]))
        self.rows_run += sum(sizes)
        first, parts = 0, []
        for size in sizes:
            parts.append(recording.run(size, *(t[first : first + size] for t in inputs)).clone())
            first += size
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _recording(self, inputs: Sequence[Tensor]) -> Recording:
        shape = tuple(tuple(t.shape[1:]) for t in inputs)
        if shape not in self._recordings:
            while len(self._recordings) >= self._max_shapes:
                self._recordings.popitem(last=False)
            self._recordings[shape] = self._recorded(inputs)
        self._recordings.move_to_end(shape)
        return self._recordings[shape]

    def _recorded(self, inputs: Sequence[Tensor]) -> Recording:
        """Record graphs, the largest first: the smaller ones find its memory in the pool."""
        device = inputs[0].device
        fixed = tuple(_fixed(t, self._rows[0]) for t in inputs)
        output = _fixed(self._network(*(t[:1] for t in fixed)), self._rows[0])
        replays: dict[int, Replay] = {}
        for size in self._rows:
            try:
                replays[size] = self._record(self._into(output, fixed, size))
            except torch.OutOfMemoryError:
                log.warning("no memory for a graph of %d rows", size)
                torch.cuda.empty_cache()
        if not replays:
            raise torch.OutOfMemoryError(f"no memory for a graph of {self._rows[-1]} rows")
        times = {size: time_repeated(replay, device) for size, replay in replays.items()}
        recording = Recording(fixed, output, replays, times)
        return self._only_agreeing(recording, fixed) if self._same_bytes else recording

    def _into(self, output: Tensor, fixed: Sequence[Tensor], size: int) -> Callable[[], None]:
        def run() -> None:
            output[:size].copy_(self._network(*(t[:size] for t in fixed)))

        return run

    def _only_agreeing(self, recording: Recording, fixed: Sequence[Tensor]) -> Recording:
        times = recording.seconds
        runs = {size: partial(recording.run, size) for size in times}
        inputs = [_varied(t[: max(times)]) for t in fixed]
        groups = group_by_bits(runs, inputs)
        if not groups:
            log.warning("no batch size gives a row the same bits at every position")
            return recording.only([sufficient(times)])
        chosen = choose_group(groups, times)
        log.info("batch sizes that agree: %s; in use: %s", groups, sorted(chosen))
        return recording.only(chosen)


def _fixed(t: Tensor, rows: int) -> Tensor:
    """Allocate memory for `rows` rows like those of `t`, filled with repetitions of them."""
    filled = t[torch.arange(rows, device=t.device) % len(t)]
    # Convolutions on tensor cores are fastest with channels last.
    return filled.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else filled


def _varied(t: Tensor) -> Tensor:
    """Return a copy whose rows differ, for inputs that are maps or sequences."""
    return t + 0.1 * torch.randn_like(t) if t.ndim > 2 else t.clone()
