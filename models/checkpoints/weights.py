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

from models.checkpoints.detect.spelling import component_plan
from models.checkpoints.errors import CheckpointError, Malformed
from models.checkpoints.parts import Plan, Shape, shapes_of
from models.checkpoints.readers.headers import read_header


@dataclass(frozen=True)
class Weights:
    """A component's tensors in its files, whatever their spelling; on the CPU they stay mapped."""

    source: str
    plan: Plan
    keys: Mapping[str, Shape]
    _open_files: Mapping[str, Any]

    @classmethod
    def open(cls, part: str, files: Sequence[Path], device: torch.device) -> Weights:
        """The weights of component `part` (unet, vae, …) in `files`, which share no key."""
        keys: dict[str, Shape] = {}
        opened: dict[str, Any] = {}
        for path in files:
            shapes = read_header(path).shapes
            if doubles := sorted(keys.keys() & shapes.keys()):
                raise Malformed(f"{path} holds what another shard holds too: {doubles[0]}")
            keys |= shapes
            opened |= dict.fromkeys(shapes, _safe_open(path, device))
        source = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
        return cls(source, _plan(part, files[0], keys), keys, opened)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every parameter."""
        return shapes_of(self.plan, self.keys)

    def tensor(self, name: str) -> Tensor:
        """One parameter, as the file has it: a view where it can be one."""
        part = self.plan[name]
        tensor: Tensor = part.cut(self._open_files[part.key].get_tensor(part.key))
        return tensor


def _plan(part: str, path: Path, keys: Mapping[str, Shape]) -> Plan:
    try:
        return component_plan(part, keys)
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error


def _safe_open(path: Path, device: torch.device) -> Any:
    try:
        return safe_open(path, framework="pt", device=str(device))
    except (SafetensorError, OSError) as error:
        raise Malformed(f"{path} is no sound safetensors file: {error}") from error
