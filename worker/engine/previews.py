"""Small pictures of how a job comes on, for those who asked for them.

Bounded in cost: one picture of a job at a time, not twice within half a second, and so seldom that
making them takes no more than a twentieth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from models.autoencoders.preview import clean_latents
from models.denoising.denoiser import DenoisingState
from worker.engine.slots import Slot
from worker.interfaces import Pixels, Watching

EVERY_S = 0.5
SHARE = 0.05  # of the time


@dataclass(frozen=True)
class Look:
    """A picture that is to be shown after its next row, which begins with `x`."""

    slot: Slot
    trajectory: DenoisingState
    row: int
    x: Tensor


def looks(batch: Iterable[Slot], now: float) -> list[Look]:
    """Before a step: what is to be shown after it."""
    found: dict[str, Look] = {}
    for slot in batch:
        running, trajectory = slot.running, slot.trajectory
        job = running.job
        if job.request.previews and job.id not in found and running.preview_due <= now:
            found[job.id] = Look(slot, trajectory, trajectory.row, trajectory.x)
    return list(found.values())


def show(look: Look) -> None:
    """After the step: tell the job's listener what its picture is going to look like."""
    listener = look.slot.running.job.listener
    if not isinstance(listener, Watching):
        return
    started = time.monotonic()
    if (pixels := _preview(look)) is not None:
        spent = time.monotonic() - started
        look.slot.running.preview_due = started + max(EVERY_S, spent / SHARE)
        listener.on_preview(pixels)


def _preview(look: Look) -> Pixels | None:
    model, trajectory = look.slot.model, look.trajectory
    latents = clean_latents(
        trajectory.table,
        look.row,
        model.noise_schedule.prediction_type,
        look.x,
        trajectory.history[0],
    )
    picture = None if latents is None else model.preview(latents)
    return None if picture is None else picture.numpy()
