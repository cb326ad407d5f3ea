"""The UNet through torch.compile with its weights frozen in, on a CPU with a C++ compiler.

A compiled graph is for one shape and takes half a minute to make, so there are few: batches are
padded to the next of `ROWS`, and images of another size than the model's own are run by eager
PyTorch. Compiled code stays in PyTorch's own cache on disk.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from models.executors.base import Network, Run
from models.executors.merged import run_like

ROWS = (2, 4, 8, 16)  # of the compiled graphs; larger batches are split


def available() -> bool:
    """Return True if there is a compiler for the code that torch.compile writes."""
    return shutil.which("c++") is not None or shutil.which("g++") is not None


class Compiled:
    """Runs `network` compiled for its own size, and `fallback` for every other size."""

    def __init__(
        self,
        network: Network,
        dtype: torch.dtype,
        fallback: Run,
        rows: Sequence[int] = ROWS,
    ) -> None:
        self._dtype = dtype
        self._rows = rows
        self._fallback = fallback
        self.rows_run = 0  # since the start, padding included
        self._sizes = [t.shape[1:] for t in network.examples(1)]
        module = copy.deepcopy(network.module).to(dtype).requires_grad_(False).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, of its own parts
            with torch._inductor.config.patch(freezing=True):
                self._run = torch.compile(module, dynamic=False)
                for size in rows:
                    self(*network.examples(size))

    def with_weights(self, network: Network) -> Run:
        """Return the run of `network` by the fallback.

        Weights are frozen into the compiled code, and compiling takes minutes.
        """
        return run_like(self._fallback, network)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> Tensor:
        if [t.shape[1:] for t in inputs] != self._sizes:
            self.rows_run += len(inputs[0])
            return self._fallback(*inputs)
        parts = zip(*(t.split(self._rows[-1]) for t in inputs), strict=True)
        return torch.cat([self._part(*part) for part in parts])

    def _part(self, *inputs: Tensor) -> Tensor:
        rows = len(inputs[0])
        bucket = self._rows[bisect_left(self._rows, rows)]
        self.rows_run += bucket
        # Compiled code takes no inference tensors, and the timestep keeps its precision.
        padded = [_padded(t, bucket).to(self._dtype if t.dim() > 1 else t.dtype) for t in inputs]
        with torch.inference_mode(False):
            out: Tensor = self._run(*(t.clone() for t in padded))
        return out[:rows].float()


def _padded(rows: Tensor, to: int) -> Tensor:
    return torch.cat([rows, rows[-1:].expand(to - len(rows), *rows.shape[1:])])
