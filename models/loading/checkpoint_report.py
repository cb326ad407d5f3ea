"""A checkpoint as its headers and configuration files tell of it; see
`models.loading.inspection`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GIB = 2**30


@dataclass(frozen=True)
class Component:
    """One network: its parameters, the precisions they are stored in, and what is wrong with it."""

    name: str
    parameters: int = 0
    precisions: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def words(self) -> str:
        stored = f", stored as {' and '.join(self.precisions)}" if self.precisions else ""
        return f"{self.parameters:,} parameters{stored}"


@dataclass(frozen=True)
class Anatomy:
    """A checkpoint. `side` is that of the pictures it was made for, in pixels; `weights` the bytes
    it takes in memory, by precision; `folder` where its small files are."""

    title: str
    folder: Path | None = None
    pipeline: str = ""
    tasks: tuple[str, ...] = ()
    side: int = 0
    prediction: str = ""
    components: tuple[Component, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def all_problems(self) -> tuple[str, ...]:
        return (*self.problems, *(told for part in self.components for told in part.problems))

    @property
    def sound(self) -> bool:
        return not self.all_problems

    def lines(self, step_bytes: int | None = None) -> list[str]:
        """All of it, for people. `step_bytes`: the memory that a step of one picture takes, where
        that was measured."""
        step = f"{step_bytes / GIB:.2f} GiB for each picture, as measured" if step_bytes else ""
        pipeline = f" ({self.pipeline})" if self.pipeline not in ("", self.title) else ""
        sizes = (f"{size / GIB:.2f} GiB in {name}" for name, size in self.weights.items())
        facts = [
            ("tasks", ", ".join(self.tasks)),
            ("size", f"{self.side}×{self.side}" if self.side else ""),
            ("predicts", self.prediction),
            *((part.name, part.words()) for part in self.components),
            ("memory", ", ".join(sizes)),
            ("a step", step),
        ]
        told = [f"  {name:15} {fact}" for name, fact in facts if fact]
        verdict = [f"wrong: {problem}" for problem in self.all_problems] or ["sound"]
        return [f"{self.title}{pipeline}", *told, *verdict]
