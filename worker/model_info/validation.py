"""Validation of converted checkpoints before they are added to the model store."""

from __future__ import annotations

from pathlib import Path

from models.checkpoints.errors import CheckpointError
from models.loading.inspection import inspect_checkpoint
from worker.model_info.fits import with_fits
from worker.settings import WorkerSettings

MAX_PROBLEMS = 20  # that are listed; a wrong file has thousands


class CheckpointValidator:
    """Refuses networks with missing or unexpected keys or wrong shapes, unknown kinds of LoRAs, and
    extra networks that fit no served model. `fitting` are the models that the last one fits."""

    def __init__(self, name: str, settings: WorkerSettings) -> None:
        self._name = name
        self._settings = settings
        self.fitting = ""
        self.notes: tuple[str, ...] = ()

    def __call__(self, converted: Path) -> None:
        """Validate a converted folder or safetensors file. Raises CheckpointError."""
        report = inspect_checkpoint(str(converted))
        report = with_fits(report, converted, self._name, self._settings)
        if problems := report.all_problems:
            more = len(problems) - MAX_PROBLEMS
            ending = f" … and {more} more" if more > 0 else ""
            first = "; ".join(problems[:MAX_PROBLEMS])
            raise CheckpointError(f"it does not load: {first}{ending}")
        self.fitting, self.notes = report.fitting, report.all_notes
