"""The engine: pictures join and leave one batch that is stepped together.

Four verbs: admit (a job becomes slots), schedule (the batcher picks slots of one shape), run
(the network once for all their rows, one update for all of them), report (progress, finished
pictures). It knows nothing of Redis or of the store: results go to the job's listener.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from math import inf

import torch

from models.denoising.denoiser import DenoisingState
from models.loading.controlnets import ControlNets
from models.pipeline import LatentDiffusion
from protocol.errors import JobFailed
from protocol.request.request import GenerationRequest
from worker.engine.batcher import Batcher, room
from worker.engine.controls import controls_of, nets_of
from worker.engine.decoding import BetweenSteps, Decoding
from worker.engine.memory import free_bytes
from worker.engine.merged_loras import MergedLoras
from worker.engine.previews import Look, looks, show
from worker.engine.resident import LimitsOfEach, Resident
from worker.engine.sampling_params import passes_of, sampling_params_of
from worker.engine.slots import RunningJob, Slot
from worker.interfaces import AdmittedJob, EngineStats, Pixels, Screened

logger = logging.getLogger(__name__)

NO_STEP = EngineStats()


class Engine:
    """Draws many jobs at once, each with the model it names. Every call must come from the same
    thread; between two, models may be put and removed."""

    def __init__(
        self,
        models: Mapping[str, Resident],
        max_slots: int,
        *,
        decoding: Decoding | None = None,
        same_bytes: bool = True,
        variants: MergedLoras | None = None,
        controlnets: ControlNets | None = None,
    ) -> None:
        """`max_slots` pictures at most step together; of several sizes or models, more are held.

        `decoding`: how latents become pictures; between the steps unless told otherwise. With
        `same_bytes`, pictures whose prompts differ in length step apart: attention over a prompt
        repeated to a neighbour's length is the same function, but not to the last bit. `variants`:
        the models with LoRAs; None: jobs may not name any. So with `controlnets`.
        """
        self._models = dict(models)
        self._max_slots = max_slots
        self._same_bytes = same_bytes
        self._variants = variants
        self._controlnets = controlnets
        self._limits = LimitsOfEach(self._models)
        self._batcher = Batcher(self._limits)
        self._slots: list[Slot] = []
        self._decoding = BetweenSteps() if decoding is None else decoding
        self.batch_rows = 0
        self._looks: list[Look] = []
        self._last_step = NO_STEP
        self._rows_before = 0
        self._hits, self._misses = 0, 0  # in the caches of models that have gone

    @property
    def models(self) -> Mapping[str, Resident]:
        """Those that can be drawn with now, by name."""
        return self._models

    def put(self, name: str, resident: Resident) -> None:
        """From now on jobs may name this model."""
        self._models[name] = resident
        self._share_memory()

    def remove(self, name: str) -> None:
        """Let go of a model that no picture here still needs, and give its memory back."""
        assert not any(slot.needs(name) for slot in self._slots), name
        model = self._models.pop(name).model
        if self._variants is not None:
            self._variants.forget(model)
        cache = model.conditioner.embeddings
        self._hits, self._misses = self._hits + cache.hits, self._misses + cache.misses
        gc.collect()  # networks and what runs them point at each other
        torch.cuda.empty_cache()
        self._share_memory()

    def _share_memory(self) -> None:
        """Models have come or gone: what is free now is what steps may use."""
        for resident in self._models.values():
            resident.profile.may_use(free_bytes(resident.model.device))

    @property
    def stats(self) -> EngineStats:
        caches = [resident.model.conditioner.embeddings for resident in list(self._models.values())]
        return replace(
            self._last_step,
            cache_hits=self._hits + sum(cache.hits for cache in caches),
            cache_misses=self._misses + sum(cache.misses for cache in caches),
        )

    @property
    def free_slots(self) -> int:
        return max(0, room(self._slots, self._max_slots) - len(self._decoding))

    @property
    def idle(self) -> bool:
        return not self._slots and not len(self._decoding)

    def prepare(self, request: GenerationRequest) -> None:
        """Merge the LoRAs of `request` and load its ControlNets, if need be; a
        `worker.interfaces.Preparing`."""
        model = self._model_of(request)
        if request.controls:
            nets_of(request, model, self._nets())

    def _model_of(self, request: GenerationRequest) -> LatentDiffusion:
        """What the job is drawn with. Raises JobFailed."""
        model = self._models[request.model].model
        if not request.loras:
            return model
        if self._variants is None:
            raise JobFailed("this worker has no LoRAs")
        return self._variants.get(model, request.loras)

    def _nets(self) -> ControlNets:
        if self._controlnets is None:
            raise JobFailed("this worker has no ControlNets")
        return self._controlnets

    def screen(self, request: GenerationRequest, pixels: Pixels) -> Screened:
        """Have the safety checker of its model look at a picture; a
        `worker.interfaces.Screening`."""
        safety = self._models[request.model].safety
        return Screened(pixels) if safety is None else safety.screen(pixels)

    def hides(self, request: GenerationRequest) -> bool:
        safety = self._models[request.model].safety
        return safety is not None and safety.mode == "blank"

    def admit(self, job: AdmittedJob) -> None:
        """Encode the job's prompts and pictures, and put each of its images in a slot."""
        started = time.monotonic()
        slots = self._slots_of(job)
        if not self._fits(slots[0]):
            raise JobFailed("a picture of this size does not fit into this worker's memory")
        slots[0].running.encode_s = time.monotonic() - started
        self._slots.extend(slots)

    def _fits(self, slot: Slot) -> bool:
        """Whether there is memory for each of its passes."""
        sizes = [slot.group, *((name, *later.shape) for name, later in slot.later)]
        return all(self._limits.profile(size).fits(size, slot.rows) for size in sizes)

    def cancel(self, job_id: str) -> None:
        self._slots = [slot for slot in self._slots if slot.running.job.id != job_id]
        self._decoding.drop(job_id)

    def step(self) -> None:
        """One denoising step for the chosen slots, then decode what is finished."""
        started = time.monotonic()
        self._last_step = NO_STEP
        if batch := self._advance_what_fits(started):
            self._stepped(batch, started)
        patience = time.monotonic() - started if self._slots else inf
        for slot, pixels, seconds in self._decoding.take(patience):
            self._hand_over(slot, pixels, seconds)

    def _told(self, batch: list[Slot], seconds: float) -> EngineStats:
        """What there is to tell of a step."""
        height, width = batch[0].trajectory.x.shape[-2:]
        factor = batch[0].model.autoencoder.config.factor
        padded = _rows_run(batch[0].model) - self._rows_before
        return EngineStats(
            pictures=len(batch),
            step_s=seconds,
            rows=self.batch_rows,
            rows_run=max(self.batch_rows, padded),
            width=width * factor,
            height=height * factor,
        )

    def _stepped(self, batch: list[Slot], started: float) -> None:
        ended = time.monotonic()
        self._last_step = self._told(batch, ended - started)
        group = batch[0].group
        self._limits.profile(group).observe(group, self.batch_rows, ended - started)
        for slot in batch:
            slot.running.stepped(started, ended)
        for running in {id(slot.running): slot.running for slot in batch}.values():
            running.job.listener.on_progress(running.step, running.steps)
        for look in self._looks:
            show(look)
        self._begin_next_passes(batch)
        self._decoding.add(slot for slot in batch if slot.trajectory.done)
        self._slots = [slot for slot in self._slots if not slot.trajectory.done]
        for slot in batch:
            if slot.trajectory.controls:  # at its next row it may hear others
                name, *_ = slot.group
                slot.group = self._group(str(name), slot.model, slot.trajectory)

    def _advance_what_fits(self, now: float) -> list[Slot]:
        """Step the chosen batch; while memory does not suffice, a smaller one. A picture that does
        not even fit alone fails, the others go on. Returns the slots that were stepped."""
        while batch := self._batcher.choose(self._slots, now):
            if self._advance(batch):
                break
            group = batch[0].group
            self._limits.profile(group).ran_out_of_memory(group, sum(slot.rows for slot in batch))
            if len(batch) == 1:
                job = batch[0].running.job
                self.cancel(job.id)
                job.listener.on_error(JobFailed("it does not fit into this worker's memory"))
        return batch

    def _advance(self, batch: list[Slot]) -> bool:
        """Whether the step was made, or there was not memory enough for it."""
        self._rows_before = _rows_run(batch[0].model)
        self._looks = looks(batch, time.monotonic())
        self.batch_rows = sum(slot.rows for slot in batch)  # their next row may take fewer
        try:
            batch[0].model.advance([slot.trajectory for slot in batch])
            return True
        except torch.OutOfMemoryError as error:
            logger.warning("out of memory", extra={"slots": len(batch), "error": str(error)})
        # Only here, where the exception and with it the step's tensors are gone.
        torch.cuda.empty_cache()
        return False

    def _slots_of(self, job: AdmittedJob) -> list[Slot]:
        name, recipe = job.request.model, sampling_params_of(job)
        model = self._model_of(job.request)
        if job.request.controls:
            recipe = replace(recipe, controls=controls_of(job, model, self._nets()))
        others = {other: resident.model for other, resident in self._models.items()}
        passes = passes_of(job.request, recipe, model, others)
        seeds = [job.request.image_seed(index) for index in range(job.request.n)]
        starts = model.start(recipe, seeds)
        steps = sum(trajectory.steps for trajectory in starts)
        steps += len(starts) * sum(later.steps for _, later in passes)
        running = RunningJob(job, recipe, encode_s=0.0, pending=len(starts), steps=steps)
        return [
            Slot(
                running,
                index,
                seed,
                model,
                trajectory,
                self._group(name, model, trajectory),
                passes,
            )
            for index, (seed, trajectory) in enumerate(zip(seeds, starts, strict=True))
        ]

    def _group(
        self, name: str, model: LatentDiffusion, trajectory: DenoisingState
    ) -> tuple[str | int, ...]:
        """What slots that step together have in common; ends in the size of their latents."""
        length = trajectory.context_length if self._same_bytes else 0
        heard = (control.net.number for control in trajectory.active_controls)
        return name, model.number, length, *heard, *trajectory.x.shape

    def _begin_next_passes(self, batch: list[Slot]) -> None:
        """Pictures that have gone one way to its end, and have another before them, begin it."""
        for slot in batch:
            if slot.trajectory.done and slot.later:
                (name, following), *slot.later = slot.later
                slot.trajectory = following.begin(slot.trajectory)
                slot.model = following.model
                slot.group = self._group(name, slot.model, slot.trajectory)

    def _hand_over(self, slot: Slot, pixels: Pixels, seconds: float) -> None:
        """A picture is decoded, which took `seconds`."""
        running = slot.running
        running.decode_s += seconds
        running.pending -= 1
        finished: Pixels = slot.model.postprocess(running.recipe, torch.from_numpy(pixels)).numpy()
        running.job.listener.on_image(slot.index, finished, slot.seed)
        if running.pending == 0:
            running.job.listener.on_done(running.timings())


def _rows_run(model: LatentDiffusion) -> int:
    """The rows an executor that pads has run so far; others need not count them."""
    rows: int = getattr(model.executors.denoiser, "rows_run", 0)
    return rows
