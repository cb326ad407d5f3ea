"""Small previews of unfinished images, for the jobs that ask for them.

Their cost is bounded: one image of a job at a time, at most one in half a second, and at most a
twentieth of the time in all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from models.autoencoders.preview import clean_latents
from models.denoising.denoiser import DenoisingState
from worker.engine.slots import Slot
from worker.interfaces import Pixels

EVERY_S = 0.5
SHARE = 0.05  # of the time


@dataclass(frozen=True)
class Snapshot:
    """An image before the row that its preview shows; the row begins with `x`."""

    slot: Slot
    state: DenoisingState
    row: int
    x: Tensor


def snapshots(batch: Iterable[Slot], now: float) -> list[Snapshot]:
    """Return the images to preview after the step that begins at `now`, one of a job at most."""
    found: dict[str, Snapshot] = {}
    for slot in batch:
        job, state = slot.job, slot.state
        if not isinstance(state, DenoisingState) or not state.ends_row:
            continue
        if job.request.previews and job.id not in found and job.next_preview_at <= now:
            found[job.id] = Snapshot(slot, state, state.row, state.x)
    return list(found.values())


def send_preview(snapshot: Snapshot) -> None:
    """Pass a preview of the image after the step to the job's listener."""
    job = snapshot.slot.job
    started = time.monotonic()
    if (pixels := _preview(snapshot)) is not None:
        spent = time.monotonic() - started
        job.next_preview_at = started + max(EVERY_S, spent / SHARE)
        job.listener.on_preview(pixels)


def _preview(snapshot: Snapshot) -> Pixels | None:
    model, state = snapshot.slot.model, snapshot.state
    latents = clean_latents(
        state.table,
        snapshot.row,
        model.noise_schedule,
        snapshot.x,
        state.history[0],
    )
    preview = None if latents is None else model.preview(latents)
    return None if preview is None else preview.numpy()
