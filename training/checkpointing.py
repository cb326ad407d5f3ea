"""Checkpoints of training runs: one file holds all that the next step depends on.

A run that is saved, stopped and resumed takes the same steps, bit for bit, as one that never
stopped: parameters, optimiser moments, the step and the random generator's state are saved.

A model that is published has its averaged weights only. `training.json` in its folder counts the
images that each part has seen, so that a run from these weights can say how far it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

_RECORD = "training.json"


class Stateful(Protocol):
    """An object with a state dict, as a module, an optimiser or an EMA."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object: ...


def save(path: Path, step: int, generator: torch.Generator, parts: Mapping[str, Stateful]) -> None:
    """Write the run's state; a crash while writing leaves the previous file intact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: part.state_dict() for name, part in parts.items()}
    partial = path.with_suffix(".partial")
    torch.save({"step": step, "generator": generator.get_state(), **state}, partial)
    os.replace(partial, path)


def resume(path: Path, generator: torch.Generator, parts: Mapping[str, Stateful]) -> int:
    """Load the run's state in place and return its step, or 0 if nothing was saved yet."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    generator.set_state(state["generator"])
    step: int = state["step"]
    return step


def images_seen(folder: Path) -> dict[str, int]:
    """Return the images that the parts of the model in `folder` have seen, empty if unknown."""
    file = folder / _RECORD
    seen: dict[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return seen


def write_images_seen(folder: Path, seen: Mapping[str, int]) -> None:
    """Write the file that `images_seen` reads."""
    text = json.dumps(dict(seen), indent=2) + "\n"
    (folder / _RECORD).write_text(text, encoding="utf-8")
