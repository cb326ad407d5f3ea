"""Small previews of unfinished images, for the jobs that ask for them.

Their cost is bounded: each image has one in half a second at most, and those of a job take a
twentieth of the time at most.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
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
    """Return the images to preview after the step that begins at `now`."""
    found = []
    for slot in batch:
        state = slot.state
        if not isinstance(state, DenoisingState) or not state.ends_row:
            continue
        if slot.job.request.previews and slot.next_preview_at <= now:
            found.append(Snapshot(slot, state, state.row, state.x))
    return found


def send_previews(snapshots: Sequence[Snapshot]) -> None:
    """Pass previews of the images after the step to the listeners of their jobs."""
    for job in dict.fromkeys(snapshot.slot.job for snapshot in snapshots):
        _send([snapshot for snapshot in snapshots if snapshot.slot.job is job])


def _send(of_job: Sequence[Snapshot]) -> None:
    job = of_job[0].slot.job
    made = {}
    for snapshot in of_job:
        started = time.monotonic()
        if (pixels := _preview(snapshot)) is not None:
            spent = job.images_left * (time.monotonic() - started)
            snapshot.slot.next_preview_at = started + max(EVERY_S, spent / SHARE)
            made[snapshot.slot.index] = pixels
    if made:
        job.listener.on_previews(made)


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
