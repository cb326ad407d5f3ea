"""The result of `models.loading.inspection`: the facts and problems of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.checkpoints.detect.kinds import Kind

GIB = 2**30


@dataclass(frozen=True)
class ComponentReport:
    """One network: its number of parameters, the precisions of its file, and its problems."""

    name: str
    parameters: int = 0
    precisions: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def summary(self) -> str:
        stored = f", stored as {' and '.join(self.precisions)}" if self.precisions else ""
        return f"{self.parameters:,} parameters{stored}"


@dataclass(frozen=True)
class CheckpointReport:
    """A checkpoint and its problems.

    side: width and height of the images it was trained on, in pixels. weights: the bytes of all
    weights in memory, by precision. folder: the folder of its small files. notes: what an operator
    has to know of a valid one. kind: of a file or network on its own. fits: of an extra network,
    the reason that it does not fit a served model, by the model's name; None if it fits.
    """

    title: str
    folder: Path | None = None
    pipeline: str = ""
    tasks: tuple[str, ...] = ()
    side: int = 0
    prediction: str = ""
    components: tuple[ComponentReport, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kind: Kind | None = None
    fits: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def all_problems(self) -> tuple[str, ...]:
        parts = (problem for component in self.components for problem in component.problems)
        return (*self.problems, *parts, *(self._misfits if self.fits_none else ()))

    @property
    def fits_none(self) -> bool:
        """Return True for an extra network that no served model can use."""
        return bool(self.fits) and None not in self.fits.values()

    @property
    def fitting(self) -> str:
        """Return the names of the served models that it fits."""
        return ", ".join(name for name, reason in self.fits.items() if reason is None)

    @property
    def all_notes(self) -> tuple[str, ...]:
        return (*self.notes, *(() if self.fits_none else self._misfits))

    @property
    def _misfits(self) -> tuple[str, ...]:
        return tuple(
            f"it does not fit the served model {name}: {reason}"
            for name, reason in self.fits.items()
            if reason is not None
        )

    @property
    def valid(self) -> bool:
        return not self.all_problems

    def lines(self, step_bytes: int | None = None) -> list[str]:
        """Return the report as text for people.

        step_bytes: the measured memory of one denoising step for one image, in bytes.
        """
        step = f"{step_bytes / GIB:.2f} GiB for each image, as measured" if step_bytes else ""
        pipeline = f" ({self.pipeline})" if self.pipeline not in ("", self.title) else ""
        sizes = (f"{size / GIB:.2f} GiB in {name}" for name, size in self.weights.items())
        facts = [
            ("tasks", ", ".join(self.tasks)),
            ("size", f"{self.side}×{self.side}" if self.side else ""),
            ("predicts", self.prediction),
            *((component.name, component.summary()) for component in self.components),
            ("memory", ", ".join(sizes)),
            ("fits", self.fitting),
            ("a step", step),
        ]
        shown = [f"  {name:15} {fact}" for name, fact in facts if fact]
        verdict = [f"problem: {problem}" for problem in self.all_problems] or ["valid"]
        notes = [f"note: {note}" for note in self.all_notes]
        return [f"{self.title}{pipeline}", *shown, *notes, *verdict]
