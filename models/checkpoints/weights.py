"""The tensors of one component, by our names, read from its file one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.checkpoints.detect.detected_file import detect_file
from models.checkpoints.errors import CheckpointError, Malformed
from models.checkpoints.key_plan import KeyPlan, Shape, shapes_of
from models.checkpoints.readers.headers import read_header

# Errors of `safe_open`; RuntimeError: the system cannot map a file of that size.
UNREADABLE = (SafetensorError, OSError, RuntimeError)


@dataclass(frozen=True)
class Weights:
    """A component's tensors in its files, in any supported spelling; on the CPU they stay mapped.

    source: the files' names, for messages. keys: the shapes of the files' tensors.
    """

    source: str
    plan: KeyPlan
    keys: Mapping[str, Shape]
    _open_files: Mapping[str, Any]

    @classmethod
    def open(
        cls,
        component: str,
        files: Sequence[Path],
        device: torch.device,
        ema: bool | None = None,
    ) -> Weights:
        """Open the weights of `component` (unet, vae, …) in `files`. ema: see `load_component`.

        Raises Malformed for a damaged file or two files with the same key, and CheckpointError for
        files without that component.
        """
        keys: dict[str, Shape] = {}
        opened: dict[str, Any] = {}
        for path in files:
            shapes = read_header(path).shapes
            if doubles := sorted(keys.keys() & shapes.keys()):
                raise Malformed(f"{path} holds what another shard holds too: {doubles[0]}")
            keys |= shapes
            opened |= dict.fromkeys(shapes, _safe_open(path, device))
        source = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
        try:
            plan = detect_file(keys).chosen(ema).plan(component)
        except CheckpointError as error:
            raise type(error)(f"{files[0]}: {error}") from error
        return cls(source, plan, keys, opened)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every parameter."""
        return shapes_of(self.plan, self.keys)

    def tensor(self, name: str) -> Tensor:
        """Return one parameter in the precision of the file: a view where possible.

        Raises Malformed.
        """
        source = self.plan[name]
        try:
            tensor: Tensor = source.cut(self._open_files[source.key].get_tensor(source.key))
        except SafetensorError as error:
            raise Malformed(f"{self.source}: {source.key} cannot be read: {error}") from error
        return tensor


def _safe_open(path: Path, device: torch.device) -> Any:
    try:
        return safe_open(path, framework="pt", device=str(device))
    except UNREADABLE as error:
        raise Malformed(f"{path} is not a valid safetensors file: {error}") from error
