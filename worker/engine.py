"""The engine: pictures join and leave one batch that is stepped together.

Four verbs: admit (a job becomes slots), schedule (the batcher picks slots of one shape), run
(the network once for all their rows, one update for all of them), report (progress, finished
pictures). It knows nothing of Redis or of the store: results go to the job's listener.
"""

from __future__ import annotations

import time

import torch

from models.pipeline import LatentDiffusion, Recipe
from worker.batcher import Batcher
from worker.pixels import image_tensor, mask_tensor
from worker.ports import AdmittedJob
from worker.slots import RunningJob, Slot


class Engine:
    """Draws many jobs at once with one model. Every call must come from the same thread."""

    def __init__(self, model: LatentDiffusion, max_slots: int, decode_slice: int = 4) -> None:
        """`max_slots` pictures at most are in the engine, `decode_slice` are decoded together."""
        self._model = model
        self._max_slots = max_slots
        self._decode_slice = decode_slice
        self._batcher = Batcher(max_rows=2 * max_slots)
        self._slots: list[Slot] = []
        self.batch_rows = 0

    @property
    def free_slots(self) -> int:
        return max(0, self._max_slots - len(self._slots))

    @property
    def idle(self) -> bool:
        return not self._slots

    def admit(self, job: AdmittedJob) -> None:
        """Encode the job's prompts and pictures, and put each of its images in a slot."""
        started = time.monotonic()
        slots = self._slots_of(job)
        slots[0].running.encode_s = time.monotonic() - started
        self._slots.extend(slots)

    def cancel(self, job_id: str) -> None:
        self._slots = [slot for slot in self._slots if slot.running.job.id != job_id]

    def step(self) -> None:
        """One denoising step for the chosen slots, then deliver those that are finished."""
        batch = self._batcher.choose(self._slots)
        if not batch:
            return
        started = time.monotonic()
        self._model.advance([slot.trajectory for slot in batch])
        ended = time.monotonic()
        self.batch_rows = sum(slot.rows for slot in batch)
        for slot in batch:
            slot.running.stepped(started, ended)
        for running in {id(slot.running): slot.running for slot in batch}.values():
            running.job.listener.on_progress(running.step, running.steps)
        self._deliver([slot for slot in batch if slot.trajectory.done])

    def _slots_of(self, job: AdmittedJob) -> list[Slot]:
        seeds = [job.request.image_seed(index) for index in range(job.request.n)]
        starts = self._model.start(_recipe(job), seeds)
        steps = sum(trajectory.steps for trajectory in starts)
        running = RunningJob(job, encode_s=0.0, pending=len(starts), steps=steps)
        return [
            Slot(running, index, seed, trajectory)
            for index, (seed, trajectory) in enumerate(zip(seeds, starts, strict=True))
        ]

    def _deliver(self, finished: list[Slot]) -> None:
        gone = set(map(id, finished))
        self._slots = [slot for slot in self._slots if id(slot) not in gone]
        for first in range(0, len(finished), self._decode_slice):
            self._decode(finished[first : first + self._decode_slice])

    def _decode(self, slots: list[Slot]) -> None:
        started = time.monotonic()
        pictures = self._model.decode(torch.stack([slot.trajectory.x for slot in slots])).numpy()
        seconds = time.monotonic() - started
        for slot, pixels in zip(slots, pictures, strict=True):
            running = slot.running
            running.decode_s += seconds / len(slots)
            running.pending -= 1
            running.job.listener.on_image(slot.index, pixels, slot.seed)
            if running.pending == 0:
                running.job.listener.on_done(running.timings())


def _recipe(job: AdmittedJob) -> Recipe:
    """The job's request, as the model reads it."""
    request = job.request
    return Recipe(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        steps=request.steps,
        sampler=request.sampler,
        schedule=request.schedule,
        guidance_scale=request.guidance_scale,
        strength=1.0 if request.strength is None else request.strength,
        image=None if job.image is None else image_tensor(job.image),
        mask=None if job.mask is None else mask_tensor(job.mask),
    )
