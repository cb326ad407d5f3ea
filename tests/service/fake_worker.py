"""A worker without a model: takes jobs off the queue and draws what a test can recognise.

It keeps to what `protocol.queue.job_queue` says of a job's record in Redis; leases and crashes
are not its
business. What has no image gives noise of the picture's seed, img2img the image back, inpaint the
image with red where the mask is white, upscale larger pixels, semantic the map in grey.
"""

import io
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image
from redis import Redis, RedisError
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from protocol.connection.redis_client import connect
from protocol.errors import DarkroomError
from protocol.queue.job import (
    ExtraFile,
    FinishReason,
    ImageResult,
    JobResult,
    JobState,
    Phase,
    Progress,
    Timings,
)
from protocol.queue.job_queue import CANCEL_FIELD, ERROR_FIELD, REQUEST, queue_name
from protocol.queue.progress import ProgressBoard
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import Extra, ExtraFormat, extra_key, result_key
from protocol.request.request import GenerationRequest, Priority, Task
from protocol.storage.object_store import ObjectStore

RED = (255, 0, 0)
NAME = "fake"


class FakeWorker:
    """Serves one model from a thread, within `with`. `hold` keeps it from taking jobs or steps."""

    def __init__(
        self, redis_url: str, store: ObjectStore, card: ModelCard, tokenizer_json: str
    ) -> None:
        self.redis: Redis = connect(redis_url)
        self.store = store
        self.card = ModelRegistry(self.redis).publish(card, tokenizer_json)
        self.presence = Presence(self.redis)
        self.board = ProgressBoard(self.redis)
        self.seen: list[GenerationRequest] = []
        self.error: DarkroomError | None = None  # what the next jobs fail with
        self.finish_reason = FinishReason.SUCCESS  # how the next pictures come out
        self.hold_at_step = -1  # a running job waits there until `release`
        self.released = threading.Event()
        self.released.set()
        self._lanes = [f"rq:queue:{queue_name(card.name, priority)}" for priority in Priority]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fake worker")

    def hold(self) -> None:
        """Take no job, and no step beyond `hold_at_step`, until `release`."""
        self.released.clear()

    def release(self) -> None:
        self.hold_at_step = -1
        self.released.set()

    def waiting(self) -> list[str]:
        """The ids of the jobs in the queue."""
        found = [self.redis.lrange(lane, 0, -1) for lane in self._lanes]
        return [job_id.decode() for ids in found for job_id in ids]  # type: ignore[union-attr]

    def report(self, state: WorkerState = WorkerState.READY) -> None:
        self.presence.report(WorkerReport(name=NAME, state=state, model=self.card.name))

    def __enter__(self) -> Self:
        self.report()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self.release()
        self._thread.join()
        self.redis.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            time.sleep(0.002)
            if not self.released.is_set() and self.hold_at_step < 0:
                continue
            with suppress(RedisError):  # some tests stop it
                for lane in self._lanes:
                    job_id = self.redis.lpop(lane)
                    if isinstance(job_id, bytes):
                        self._run(job_id.decode())

    def _run(self, job_id: str) -> None:
        job = Job.fetch(job_id, connection=self.redis, serializer=JSONSerializer)
        request = GenerationRequest.model_validate(job.kwargs[REQUEST])
        self.seen.append(request)
        job.set_status(JobStatus.STARTED)
        for step in range(request.steps + 1):
            self._tell(job_id, JobState.RUNNING, step, request.steps)
            if step == self.hold_at_step:
                while not self.released.wait(0.005) and not self._cancelled(job):
                    pass
            if self._cancelled(job):
                job.set_status(JobStatus.CANCELED)
                self._tell(job_id, JobState.CANCELLED, step, request.steps)
                return
        if self.error is not None:
            self.redis.hset(job.key, ERROR_FIELD, self.error.to_record().model_dump_json())
            job.set_status(JobStatus.FAILED)
            self._tell(job_id, JobState.FAILED, request.steps, request.steps)
            return
        result = JobResult(
            images=tuple(self._deliver(job_id, request, index) for index in range(request.n)),
            timings=Timings(denoise=0.5, total=1.0),
        )
        value = result.model_dump(mode="json")
        Result.create(job, Result.Type.SUCCESSFUL, ttl=600, return_value=value)
        job.set_status(JobStatus.FINISHED)
        self._tell(job_id, JobState.FINISHED, request.steps, request.steps)

    def _tell(self, job_id: str, state: JobState, step: int, steps: int) -> None:
        phase = Phase.DENOISE if state is JobState.RUNNING else None
        self.board.publish(
            Progress(job_id=job_id, state=state, step=step, steps=steps, phase=phase)
        )

    def _cancelled(self, job: Job) -> bool:
        return bool(self.redis.hexists(job.key, CANCEL_FIELD))

    def _deliver(self, job_id: str, request: GenerationRequest, index: int) -> ImageResult:
        seed = request.image_seed(index)
        packed = io.BytesIO()
        self._draw(request, seed).save(packed, request.output_format.value, quality=request.quality)
        key = result_key(job_id, index, request.output_format)
        self.store.put(key, packed.getvalue(), request.output_format.content_type)
        return ImageResult(
            key=key,
            seed=seed,
            width=request.width,
            height=request.height,
            format=request.output_format,
            bytes=len(packed.getvalue()),
            finish_reason=self.finish_reason,
            extras=self._sound(job_id, request, index),
        )

    def _sound(self, job_id: str, request: GenerationRequest, index: int) -> tuple[ExtraFile, ...]:
        """Of a model that has any: a file that says which picture it belongs to."""
        if request.audio_format is None:
            return ()
        file_format = ExtraFormat(request.audio_format)
        key, content = extra_key(job_id, index, Extra.SOUND, file_format), b"sound %d" % index
        self.store.put(key, content, file_format.content_type)
        return (ExtraFile(kind=Extra.SOUND, key=key, format=file_format, bytes=len(content)),)

    def _draw(self, request: GenerationRequest, seed: int) -> Image.Image:
        if not request.task.takes_image:
            shape = (request.height, request.width, 3)
            return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
        assert request.image_key
        image = Image.open(io.BytesIO(self.store.get(request.image_key)))
        assert image.mode == ("L" if request.task is Task.SEMANTIC else "RGB")
        if request.task is Task.UPSCALE:
            return image.resize((request.width, request.height), Image.Resampling.NEAREST)
        assert image.size == (request.width, request.height)
        if request.task is Task.INPAINT:
            assert request.mask_key
            mask = Image.open(io.BytesIO(self.store.get(request.mask_key)))
            assert mask.mode == "L"
            image.paste(RED, mask=mask)
        return image
