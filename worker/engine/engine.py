"""The engine: images join and leave one batch that is stepped together.

Four verbs: admit (a job becomes slots), schedule (the batcher chooses slots of one shape), run
(the network once for all their rows, one update for all of them), report (progress and finished
images, to the job's listener). It uses neither Redis nor the object store.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

import torch

from models.denoising.denoiser import DenoisingState
from models.denoising.sampling_params import SamplingParams
from models.denoising.tiled_state import TiledState
from models.loading.controlnets import ControlNets
from models.loading.embeddings import Embeddings
from models.loading.upscalers import Upscalers
from models.multi_pass import Pass, State
from models.pipeline import LatentDiffusion
from models.upscalers.tile_work import TileWork
from models.upscalers.upscaling import Upscaling
from protocol.errors import JobFailed
from protocol.queue.job import FinishReason
from protocol.request.request import GenerationRequest
from worker.engine.batcher import Batcher, free_slots
from worker.engine.controls import controls_of, nets_of
from worker.engine.decoding import Decoding, InlineDecoding
from worker.engine.loaded_model import TILE_WORK, LimitsByModel, LoadedModel
from worker.engine.memory import free_bytes
from worker.engine.merged_loras import MergedLoras, Timeline
from worker.engine.outpainting import outpaintings_of
from worker.engine.previews import Snapshot, send_previews, snapshots
from worker.engine.sampling_params import passes_of, sampling_params_of
from worker.engine.slots import Slot, advance
from worker.engine.tiled_upscaling import tile_upscaling_of, tiled_pass_of
from worker.engine.upscaling import method_of, upscaling_of
from worker.interfaces import AdmittedJob, Engine, EngineStats, Pixels

logger = logging.getLogger(__name__)


class DiffusionEngine(Engine):
    """Generates the images of many jobs at once, each with the model that its request names.

    Between two steps, models may be put and removed.
    """

    def __init__(
        self,
        models: Mapping[str, LoadedModel],
        max_slots: int,
        *,
        decoding: Decoding | None = None,
        same_bytes: bool = True,
        merged_loras: MergedLoras | None = None,
        controlnets: ControlNets | None = None,
        embeddings: Embeddings | None = None,
        upscalers: Upscalers | None = None,
    ) -> None:
        """At most `max_slots` images step together; more are held if sizes or models differ.

        `decoding`: by default between the steps. With `same_bytes`, images whose prompts differ in
        length step apart: attention over a prompt padded to another's length is the same function,
        but not to the last bit. Without `merged_loras` jobs may not name LoRAs, without
        `controlnets` no ControlNets, and without `upscalers` none of these. `embeddings` adds words
        to the models.
        """
        self._models = dict(models)
        self._max_slots = max_slots
        self._same_bytes = same_bytes
        self._merged_loras = merged_loras
        self._controlnets = controlnets
        self._embeddings = embeddings
        self._upscalers = upscalers
        self._limits = LimitsByModel(self._models)
        self._batcher = Batcher(self._limits)
        self._slots: list[Slot] = []
        self._decoding = InlineDecoding() if decoding is None else decoding
        self._snapshots: list[Snapshot] = []
        self._left: list[int] = []  # steps of the batch's slots before the step
        self._last_step = EngineStats()
        self._shared_beside = 0  # bytes of extra networks when memory was last shared
        self._hits, self._misses = 0, 0  # in the prompt caches of removed models
        self._decoded_again = 0  # images of removed models

    @property
    def models(self) -> Mapping[str, LoadedModel]:
        """The models in memory, by name."""
        return self._models

    @property
    def upscalers(self) -> Upscalers | None:
        """The installed upscalers."""
        return self._upscalers

    def put(self, name: str, loaded: LoadedModel) -> None:
        """Add a model, which jobs may name from now on."""
        self._models[name] = loaded
        self._share_memory()

    def remove(self, name: str) -> None:
        """Remove a model that no slot still needs, and free its memory."""
        assert not any(slot.needs(name) for slot in self._slots), name
        plain = self._models.pop(name).model
        model = self._current(plain)
        if self._merged_loras is not None:
            self._merged_loras.forget(model)
        if self._embeddings is not None:
            self._embeddings.forget(plain)
        cache = model.conditioner.embeddings
        self._hits, self._misses = self._hits + cache.hits, self._misses + cache.misses
        self._decoded_again += model.overflows.count
        gc.collect()  # networks and their executors refer to each other
        torch.cuda.empty_cache()
        self._share_memory()

    def _share_memory(self) -> None:
        """Let steps use the memory that is free after weights were loaded or removed."""
        for loaded in self._models.values():
            loaded.profile.may_use(free_bytes(loaded.model.device))

    @property
    def _extra_bytes(self) -> int:
        """The bytes of merged LoRAs and of ControlNets, which steps cannot use."""
        merged = 0 if self._merged_loras is None else self._merged_loras.nbytes
        return merged + (0 if self._controlnets is None else self._controlnets.nbytes)

    @property
    def stats(self) -> EngineStats:
        models = [self._current(loaded.model) for loaded in list(self._models.values())]
        caches = [model.conditioner.embeddings for model in models]
        return replace(
            self._last_step,
            cache_hits=self._hits + sum(cache.hits for cache in caches),
            cache_misses=self._misses + sum(cache.misses for cache in caches),
            decoded_again=self._decoded_again + sum(model.overflows.count for model in models),
        )

    @property
    def free_slots(self) -> int:
        return max(0, free_slots(self._slots, self._max_slots) - len(self._decoding))

    @property
    def idle(self) -> bool:
        return not self._slots and not len(self._decoding)

    def prepare(self, request: GenerationRequest) -> None:
        """Merge the LoRAs of `request` and load its ControlNets and upscalers, if need be."""
        (_, model), *_ = self._timeline_of(request)
        if request.controls:
            nets_of(request, model, self._nets())
        for name in request.upscalers:
            method_of(name, self._upscalers)

    def _timeline_of(self, request: GenerationRequest) -> Timeline:
        """Return the request's model, with its LoRAs merged, by share of the steps.

        Raises JobFailed.
        """
        model = self._with_words(self._models[request.model].model)
        if not request.loras:
            return ((0.0, model),)
        if self._merged_loras is None:
            raise JobFailed("this worker has no LoRAs")
        return self._merged_loras.timeline(model, request.loras)

    def _current(self, model: LatentDiffusion) -> LatentDiffusion:
        """Return the model with the words of embeddings as jobs have used it last."""
        return model if self._embeddings is None else self._embeddings.current(model)

    def _with_words(self, model: LatentDiffusion) -> LatentDiffusion:
        """Return the model with the words of the embeddings that fit it now."""
        if self._embeddings is None:
            return model
        before, after = self._current(model), self._embeddings.extended(model)
        if after is not before and self._merged_loras is not None:
            self._merged_loras.forget(before)
        return after

    def _nets(self) -> ControlNets:
        if self._controlnets is None:
            raise JobFailed("this worker has no ControlNets")
        return self._controlnets

    def screen(self, request: GenerationRequest, pixels: Pixels) -> tuple[Pixels, FinishReason]:
        """Check an image with the safety checker of its model, if it has one."""
        safety = self._models[request.model].safety
        return super().screen(request, pixels) if safety is None else safety.screen(pixels)

    def may_hide(self, request: GenerationRequest) -> bool:
        safety = self._models[request.model].safety
        return safety is not None and safety.mode == "blank"

    def admit(self, job: AdmittedJob) -> None:
        """Encode the job's prompts and input images, and put each of its images in a slot."""
        started = time.monotonic()
        slots = self._slots_of(job)
        if (held := self._extra_bytes) != self._shared_beside:
            self._shared_beside = held
            self._share_memory()
        if not self._fits(slots[0]):
            raise JobFailed("an image of this size does not fit into this worker's memory")
        job.encode_s = time.monotonic() - started
        self._slots.extend(slots)

    def _slots_of(self, job: AdmittedJob) -> list[Slot]:
        if (upscaling := upscaling_of(job, self._upscalers)) is not None:
            return [self._upscaling_slot(job, upscaling, SamplingParams())]
        name, params = job.request.model, sampling_params_of(job)
        timeline = self._timeline_of(job.request)
        model = timeline[0][1]
        if job.request.tiles is not None:
            nets = nets_of(job.request, model, self._nets()) if job.request.controls else []
            later = tiled_pass_of(job, model, params, nets).around()
            upscaling = tile_upscaling_of(job, self._upscalers)
            return [self._upscaling_slot(job, upscaling, params, later, timeline)]
        if job.request.controls:
            params = replace(params, controls=controls_of(job, model, self._nets()))
        starts = self._starts(job, model, params)
        job.images_left = len(starts)
        job.steps = sum(
            state.steps + sum(later.steps for _, later in passes) for state, passes in starts
        )
        seeds = (job.request.image_seed(index) for index in range(job.request.n))
        return [
            Slot(
                job,
                n,
                seed,
                params,
                model,
                state,
                self._group(name, model, state),
                passes,
                timeline,
            )
            for n, (seed, (state, passes)) in enumerate(zip(seeds, starts, strict=True))
        ]

    def _starts(
        self, job: AdmittedJob, model: LatentDiffusion, params: SamplingParams
    ) -> list[tuple[DenoisingState, list[tuple[str, Pass]]]]:
        """Return the state in which each image begins, and the passes after that."""
        request = job.request
        if request.outpainting is not None:
            outpaintings = outpaintings_of(job, model, params)
            return [
                (state, [(request.model, later) for later in passes])
                for state, passes in outpaintings
            ]
        refiner = request.refinement.model if request.refinement else None
        others = {
            name: self._with_words(loaded.model)
            for name, loaded in self._models.items()
            if name == refiner
        }
        passes = passes_of(request, params, model, others, self._upscalers)
        seeds = [request.image_seed(index) for index in range(request.n)]
        return [(state, passes) for state in model.start(params, seeds)]

    def _upscaling_slot(
        self,
        job: AdmittedJob,
        upscaling: Upscaling,
        params: SamplingParams,
        later: Sequence[Pass] = (),
        timeline: Timeline = (),
    ) -> Slot:
        name, seed = job.request.model, job.request.seed
        model = self._models[name].model
        job.images_left = 1
        job.steps = upscaling.steps + sum(following.steps for following in later)
        group = self._group(name, model, upscaling)
        passes = [(name, following) for following in later]
        return Slot(job, 0, seed, params, model, upscaling, group, passes, timeline)

    def _group(self, name: str, model: LatentDiffusion, state: State) -> tuple[str | int, ...]:
        """Return a key shared by slots that may step together; it ends in their latent size.

        Tiles have the size of the tile at the end.
        """
        if isinstance(state, TileWork):
            return name, TILE_WORK, state.method, *state.shape
        length = state.context_length if self._same_bytes else 0
        nets = (control.net.number for control in state.active_controls)
        # Apart from whole images, which take turns with the many tiles of a large one.
        tiles = ("tiles",) if isinstance(state, TiledState) else ()
        return name, model.number, *tiles, length, *nets, *state.input_shape

    def _fits(self, slot: Slot) -> bool:
        """Return True if there is memory for each pass of the slot."""
        sizes = [slot.group, *((name, 0, *later.shape) for name, later in slot.later)]
        # An image that is upscaled first does not tell the rows of the passes that follow.
        is_upscaled = isinstance(slot.state, TileWork)
        rows = slot.model.guided_rows(slot.params) if is_upscaled else slot.rows
        return all(self._limits.profile(size).fits(size, rows) for size in sizes)

    def cancel(self, job_id: str) -> None:
        self._slots = [slot for slot in self._slots if slot.job.id != job_id]
        self._decoding.drop(job_id)

    def step(self) -> None:
        """Run one denoising step of the chosen slots, then decode finished images."""
        started = time.monotonic()
        self._last_step = EngineStats()
        if batch := self._advance_what_fits(started):
            self._after_step(batch, started)
        patience = time.monotonic() - started if self._slots else inf
        for slot, pixels, seconds in self._decoding.take(patience):
            self._deliver(slot, pixels, seconds)

    def _advance_what_fits(self, now: float) -> list[Slot]:
        """Step the chosen batch, or a smaller one while memory does not suffice; return its slots.

        An image that does not fit alone fails, the others go on.
        """
        while batch := self._chosen(now):
            if self._advance(batch):
                break
            group = batch[0].group
            self._limits.profile(group).ran_out_of_memory(group, sum(slot.rows for slot in batch))
            if len(batch) == 1 and batch[0].rows == batch[0].least_rows:
                job = batch[0].job
                self.cancel(job.id)
                job.listener.on_error(JobFailed("it does not fit into this worker's memory"))
        return batch

    def _chosen(self, now: float) -> list[Slot]:
        """Return the slots of the next step; a tiled image takes part with tiles for one batch."""
        for slot in self._slots:
            slot.may_take(self._limits.cap(slot.group))
        return self._batcher.choose(self._slots, now)

    def _advance(self, batch: list[Slot]) -> bool:
        """Run one step of all of `batch`; return False if memory did not suffice."""
        model = batch[0].model
        rows_before, rows = _rows_run(model), sum(slot.rows for slot in batch)
        self._snapshots = snapshots(batch, time.monotonic())
        self._left = [slot.evaluations_left for slot in batch]
        try:
            advance(batch)
        except torch.OutOfMemoryError as error:
            logger.warning("out of memory", extra={"slots": len(batch), "error": str(error)})
        else:
            padded = max(rows, _rows_run(model) - rows_before)
            self._last_step = _stats_of(batch, rows, padded)
            return True
        # Only here, where the exception and with it the step's tensors are gone.
        torch.cuda.empty_cache()
        return False

    def _after_step(self, batch: list[Slot], started: float) -> None:
        ended = time.monotonic()
        stats = self._last_step = replace(self._last_step, step_s=ended - started)
        group = batch[0].group
        self._limits.profile(group).observe(group, stats.rows, ended - started)
        for slot, left in zip(batch, self._left, strict=True):
            slot.job.count_steps(left - slot.evaluations_left, started, ended)
        for job in dict.fromkeys(slot.job for slot in batch):
            job.listener.on_progress(job.steps_done, job.steps)
        send_previews(self._snapshots)
        self._begin_next_passes(batch)
        self._slots = [slot for slot in self._slots if not slot.state.done]
        for slot in batch:
            if slot.state.done:
                self._finish(slot)
            elif isinstance(slot.state, TileWork) or slot.state.controls or len(slot.timeline) > 1:
                # Its next tile may have another size, its next row other active networks.
                slot.follow_timeline()
                name, *_ = slot.group
                slot.group = self._group(str(name), slot.model, slot.state)

    def _finish(self, slot: Slot) -> None:
        """Decode latents, or deliver upscaled pixels."""
        if isinstance(slot.state, TileWork):
            self._deliver(slot, slot.state.pixels, 0.0)
        else:
            self._decoding.add([slot])

    def _begin_next_passes(self, batch: list[Slot]) -> None:
        """Start the next pass of the slots whose pass is done and that have another."""
        for slot in batch:
            if slot.state.done and slot.later:
                (name, following), *slot.later = slot.later
                slot.state = following.begin(slot.state)
                slot.model = following.model
                slot.follow_timeline()
                slot.group = self._group(name, slot.model, slot.state)

    def _deliver(self, slot: Slot, pixels: Pixels, seconds: float) -> None:
        """Pass an image, decoded in `seconds`, to the job's listener."""
        job = slot.job
        job.decode_s += seconds
        job.images_left -= 1
        if job.request.paste is None:  # otherwise the client's pixels are put back by the paste
            pixels = slot.model.postprocess(slot.params, torch.from_numpy(pixels)).numpy()
        job.listener.on_image(slot.index, pixels, slot.seed)
        if job.images_left == 0:
            job.listener.on_done(job.timings)


def _stats_of(batch: list[Slot], rows: int, rows_run: int) -> EngineStats:
    """Return the figures of a step of `batch`, save its seconds."""
    state = batch[0].state
    if isinstance(state, TileWork):
        (height, width), factor = state.shape, 1
    else:
        height, width = state.input_shape[-2:]
        factor = batch[0].model.autoencoder.config.factor
    return EngineStats(
        images=len(batch),
        rows=rows,
        rows_run=rows_run,
        width=width * factor,
        height=height * factor,
    )


def _rows_run(model: LatentDiffusion) -> int:
    """Return the rows that a padding executor has run so far; others do not count them."""
    rows: int = getattr(model.executors.denoiser, "rows_run", 0)
    return rows
