"""A fake worker without a model that generates images a test can recognise.

It reads and writes job records in Redis as `protocol.queue.job_queue` describes them, without
leases and crashes. A task without an image gives noise of the image's seed; img2img gives the input
image, inpaint the image with red where the mask is white, outpaint the image in red, upscale larger
pixels, and semantic the label map in grey.
"""

import io
import threading
import time
from contextlib import suppress
from typing import Self

import numpy as np
from PIL import Image
from redis import Redis, RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer

from protocol.connection.redis_client import connect
from protocol.connection.scripts import FOLDER
from protocol.errors import DarkroomError
from protocol.queue import webhooks
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
from protocol.queue.progress import TTL_S, Previews, ProgressBoard, channel
from protocol.queue.views import STATES
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from protocol.request.model_card import ModelCard
from protocol.request.object_keys import Extra, ExtraFormat, extra_key, result_key
from protocol.request.request import GenerationRequest, Priority, Task
from protocol.storage.object_store import ObjectStore
from worker.output.paste import pasted

RED = (255, 0, 0)
NAME = "fake"


def preview(step: int) -> bytes:
    """Return a preview of a step: a grey JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), 3 * (min(16 * step, 255),)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


# Times of a job are Redis', as those that the real scripts write, so they are in order.
CLOCK = (FOLDER / "library/clock.lua").read_text("utf-8")
# Takes a job and writes that it runs, at once, as `lua/claim.lua` does. Keys: due webhooks, lanes.
CLAIM = f"""{CLOCK}
for place = 2, #KEYS do
  local id = redis.call('LPOP', KEYS[place])
  if id then
    if redis.call('EXISTS', 'rq:job:' .. id) == 1 then
      redis.call('HSET', 'rq:job:' .. id, 'status', 'started', 'started_at', rq_time())
    end
    if redis.call('HEXISTS', ARGV[1] .. id, 'watches') == 1 then
      redis.call('ZADD', KEYS[1], 'XX', 0, id)
    end
    return id
  end
end
"""
STAMP_END = f"{CLOCK} redis.call('HSET', KEYS[1], 'ended_at', rq_time())"
POLL_S = 0.01
PRESENT_S = 3600.0  # it reports once, and a test may take longer than a worker may be silent


class FakeWorker:
    """Serves one model from a thread, within `with`. `hold` pauses it."""

    def __init__(
        self, redis_url: str, store: ObjectStore, card: ModelCard, tokenizer_json: str
    ) -> None:
        self.redis: Redis = connect(redis_url)
        self.store = store
        self.card = ModelRegistry(self.redis).publish(card, tokenizer_json)
        self.presence = Presence(self.redis, PRESENT_S)
        self.board = ProgressBoard(self.redis)
        self.seen: list[GenerationRequest] = []
        self.jobs: list[str] = []  # their ids
        self.error: DarkroomError | None = None  # the error of the next jobs
        self.finish_reason = FinishReason.SUCCESS  # of the next images
        self.hold_at_step = -1  # jobs taken from now on wait at this step until `release`
        self.released = threading.Event()
        self.released.set()
        self._lanes = [f"rq:queue:{queue_name(card.name, priority)}" for priority in Priority]
        self._claim = self.redis.register_script(CLAIM)
        self._stamp_end = self.redis.register_script(STAMP_END)
        self._taking = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fake worker")

    def hold(self) -> None:
        """Hold next jobs at `hold_at_step`, or take none if it is negative, until `release`."""
        with self._taking:
            self.released.clear()

    def release(self) -> None:
        self.hold_at_step = -1
        self.released.set()

    def waiting(self) -> list[str]:
        """Return the ids of the jobs in the queue."""
        lanes = [self.redis.lrange(lane, 0, -1) for lane in self._lanes]
        return [job_id.decode() for ids in lanes for job_id in ids]  # type: ignore[union-attr]

    def report(self, state: WorkerState = WorkerState.READY) -> None:
        self.presence.report(WorkerReport(name=NAME, state=state, model=self.card.name))

    def __enter__(self) -> Self:
        self.report()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.release()
        self._thread.join()
        self.redis.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            time.sleep(POLL_S)
            with suppress(RedisError, NoSuchJobError):  # some tests stop or empty Redis
                job_id, hold_at_step = self._next_job()
                if job_id is not None:
                    self._run(job_id, hold_at_step)

    def _next_job(self) -> tuple[str | None, int]:
        """Return the id of the next job, if there is one, and the step at which it is held."""
        with self._taking:
            hold_at_step = self.hold_at_step
            if not self.released.is_set() and hold_at_step < 0:
                return None, hold_at_step
            job_id = self._claim(
                keys=[webhooks.DUE, *self._lanes], args=[webhooks.delivery_key("")]
            )
        return None if job_id is None else job_id.decode(), hold_at_step

    def _run(self, job_id: str, hold_at_step: int) -> None:
        job = Job.fetch(job_id, connection=self.redis, serializer=JSONSerializer)
        request = GenerationRequest.model_validate(job.kwargs[REQUEST])
        self.seen.append(request)
        self.jobs.append(job_id)
        for step in range(request.steps + 1):
            self._publish(job_id, step, request.steps, request.n if request.previews else 0)
            if step == hold_at_step:
                while not self.released.wait(0.005) and not self._cancelled(job):
                    pass
            if self._cancelled(job):
                self._end(job, JobStatus.CANCELED, step, request.steps)
                return
        if self.error is not None:
            self._end(job, JobStatus.FAILED, request.steps, request.steps)
            return
        result = JobResult(
            images=tuple(self._store_image(job_id, request, index) for index in range(request.n)),
            timings=Timings(denoise=0.5, total=1.0),
        )
        self._end(job, JobStatus.FINISHED, request.steps, request.steps, result)

    def _end(
        self, job: Job, status: JobStatus, step: int, steps: int, result: JobResult | None = None
    ) -> None:
        """Write the end of the job and its last progress, at once."""
        progress = Progress(job_id=job.id, state=STATES[status], step=step, steps=steps)
        message = progress.model_dump_json()
        with self.redis.pipeline() as pipe:
            job.set_status(status, pipe)
            self._stamp_end(keys=[job.key], client=pipe)
            pipe.zadd(webhooks.DUE, {job.id: 0}, xx=True)
            if result is not None:
                value = result.model_dump(mode="json")
                Result.create(job, Result.Type.SUCCESSFUL, 600, return_value=value, pipeline=pipe)
            if status is JobStatus.FAILED and self.error is not None:
                pipe.hset(job.key, ERROR_FIELD, self.error.to_record().model_dump_json())
            pipe.set(channel(job.id), message, ex=TTL_S)
            pipe.publish(channel(job.id), message)
            pipe.execute()

    def _publish(self, job_id: str, step: int, steps: int, previewed: int) -> None:
        """Publish the progress of a running job, with previews of so many images.

        That of the first has the grey level of its step, those of the others that of the next ones.
        """
        progress = Progress(
            job_id=job_id,
            state=JobState.RUNNING,
            step=step,
            steps=steps,
            phase=Phase.DENOISE,
            previews=step + 1 if previewed else 0,
        )
        each = {index: preview(step + index) for index in range(previewed if previewed > 1 else 0)}
        made = Previews(preview(step), each, step + 1)
        self.board.publish_all([progress], {job_id: made} if previewed else {})

    def _cancelled(self, job: Job) -> bool:
        return bool(self.redis.hexists(job.key, CANCEL_FIELD))

    def _store_image(self, job_id: str, request: GenerationRequest, index: int) -> ImageResult:
        seed = request.image_seed(index)
        buffer = io.BytesIO()
        inputs = {key: self.store.get(key) for key in request.input_keys}
        result = pasted(np.asarray(self._generate(request, seed)), request, inputs)
        image = Image.fromarray(result.pixels)
        if result.alpha is not None:
            image.putalpha(Image.fromarray(result.alpha))
        image.save(buffer, request.output_format.value, quality=request.quality)
        key = result_key(job_id, index, request.output_format)
        self.store.put(key, buffer.getvalue(), request.output_format.content_type)
        return ImageResult(
            key=key,
            seed=seed,
            width=image.width,
            height=image.height,
            format=request.output_format,
            bytes=len(buffer.getvalue()),
            finish_reason=self.finish_reason,
            extras=self._sound(job_id, request, index),
        )

    def _sound(self, job_id: str, request: GenerationRequest, index: int) -> tuple[ExtraFile, ...]:
        """Return a sound file whose content is the index of its image, if one was requested."""
        if request.audio_format is None:
            return ()
        file_format = ExtraFormat(request.audio_format)
        key, content = extra_key(job_id, index, Extra.SOUND, file_format), b"sound %d" % index
        self.store.put(key, content, file_format.content_type)
        return (ExtraFile(kind=Extra.SOUND, key=key, format=file_format, bytes=len(content)),)

    def _generate(self, request: GenerationRequest, seed: int) -> Image.Image:
        if not request.task.takes_image:
            shape = (request.height, request.width, 3)
            return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))
        assert request.image_key
        image = Image.open(io.BytesIO(self.store.get(request.image_key)))
        if request.outpainting is not None:
            place = request.outpainting
            whole = Image.new("RGB", (request.width, request.height), RED)
            x, y = place.image.left - place.result.left, place.image.top - place.result.top
            whole.paste(image.convert("RGB"), (x, y))
            return whole
        assert image.mode == ("L" if request.task is Task.SEMANTIC else "RGB")
        if request.task is Task.UPSCALE or request.tiles is not None:
            return image.resize((request.width, request.height), Image.Resampling.NEAREST)
        assert image.size == (request.width, request.height)
        if request.task is Task.INPAINT:
            assert request.mask_key
            mask = Image.open(io.BytesIO(self.store.get(request.mask_key)))
            assert mask.mode == "L"
            image.paste(RED, mask=mask.point(lambda level: 255 if level >= 128 else 0))
        return image
