"""A job's life in a real queue and a real worker with a fake engine."""

import io
import json
import subprocess
import sys
import threading

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from rq.command import (
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)

from protocol.errors import DarkroomError, DeadlineExceeded, JobFailed, QueueFull, UnknownJob
from protocol.queue.job import JobState
from protocol.request.object_keys import input_key, new_job_id
from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import (
    MODEL,
    client,
    job_queue,
    outcome,
    request,
    running_worker,
    settings,
    wait_for,
)
from tests.worker.fake_engine import FakeEngine

ENDLESS = 1000  # steps; with 0.1 s for each, more than a test waits for anything


def test_submitted_job_is_generated_and_stored(redis_url: str) -> None:
    queue = job_queue(redis_url)
    store = ObjectStore.open("memory:///")
    with running_worker(settings(redis_url), store=store):
        view = outcome(queue, queue.submit(request(n=3, seed=7)))

    assert view.state is JobState.FINISHED
    assert view.result is not None
    assert [image.seed for image in view.result.images] == [7, 8, 9]
    assert view.result.timings.denoise == 0.2
    assert view.result.timings.total >= view.result.timings.deliver
    for image in view.result.images:
        png = store.get(image.key)
        assert len(png) == image.bytes
        with Image.open(io.BytesIO(png)) as opened:
            assert isinstance(opened, PngImageFile)
            assert opened.size == (16, 16)
            assert opened.getpixel((0, 0)) == (image.seed,) * 3
            assert json.loads(opened.text["darkroom"])["seed"] == image.seed


def test_progress_is_published_and_the_end_last(redis_url: str) -> None:
    queue = job_queue(redis_url)
    with running_worker(settings(redis_url)):
        view = outcome(queue, queue.submit(request()))
        wait_for(lambda: queue.view(view.id).progress is not None)
    progress = queue.view(view.id).progress
    assert progress is not None
    assert progress.state is JobState.FINISHED


def test_submitting_again_with_the_same_id_changes_nothing(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=1)
    job_id = new_job_id()
    assert queue.submit(request(), job_id) == job_id
    assert queue.submit(request(), job_id) == job_id
    assert queue.depth(MODEL) == 1


def test_full_queue_refuses_jobs(redis_url: str) -> None:
    queue = job_queue(redis_url, max_queue_length=2)
    queue.submit(request())
    queue.submit(request())
    with pytest.raises(QueueFull) as refusal:
        queue.submit(request())
    assert (refusal.value.depth, refusal.value.limit) == (2, 2)


def test_jobs_wait_in_order(redis_url: str) -> None:
    queue = job_queue(redis_url)
    ids = [queue.submit(request()) for _ in range(3)]
    assert [queue.position(job_id) for job_id in ids] == [0, 1, 2]
    assert queue.view(ids[1]).state is JobState.QUEUED


@pytest.mark.parametrize("job_id", ["0" * 32, "../../etc/passwd", "", "é" * 32])
def test_job_that_was_never_submitted_is_unknown(redis_url: str, job_id: str) -> None:
    queue = job_queue(redis_url)
    with pytest.raises(UnknownJob):
        queue.view(job_id)
    with pytest.raises(UnknownJob):
        queue.cancel(job_id)


def test_job_cancelled_while_it_waits_never_runs(redis_url: str) -> None:
    queue = job_queue(redis_url)
    cancelled, other = queue.submit(request()), queue.submit(request())
    assert queue.cancel(cancelled).state is JobState.CANCELLED
    assert queue.position(other) == 0
    engine = FakeEngine()
    with running_worker(settings(redis_url), engine):
        assert outcome(queue, other).state is JobState.FINISHED
    assert engine.admitted == [other]
    assert queue.cancel(cancelled).state is JobState.CANCELLED


def test_running_job_is_cancelled_before_next_step(redis_url: str) -> None:
    queue = job_queue(redis_url)
    engine = FakeEngine(step_s=0.1)
    with running_worker(settings(redis_url), engine):
        cancelled = queue.submit(request(steps=ENDLESS))
        wait_for(lambda: (p := queue.view(cancelled).progress) is not None and p.step > 0)
        mate = queue.submit(request(steps=20))
        queue.cancel(cancelled)
        view = outcome(queue, cancelled)
        assert view.state is JobState.CANCELLED
        assert view.result is None
        assert outcome(queue, mate).state is JobState.FINISHED
        assert engine.idle


def test_ended_job_cannot_be_cancelled(redis_url: str) -> None:
    queue = job_queue(redis_url)
    with running_worker(settings(redis_url)):
        job_id = queue.submit(request())
        outcome(queue, job_id)
    assert queue.cancel(job_id).state is JobState.FINISHED


def test_job_that_the_engine_refuses_fails_with_its_reason(redis_url: str) -> None:
    queue = job_queue(redis_url)
    with running_worker(settings(redis_url)) as worker:
        refused, other = queue.submit(request(prompt="refuse")), queue.submit(request())
        view = outcome(queue, refused)
        assert outcome(queue, other).state is JobState.FINISHED
        wait_for(lambda: not worker.consumer.claims)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert isinstance(DarkroomError.from_record(view.error), JobFailed)
    assert "does not want it" in view.error.message


def test_job_that_breaks_the_engine_is_tried_alone_and_fails(redis_url: str) -> None:
    queue = job_queue(redis_url)
    broken, *others = (
        queue.submit(request(prompt=prompt, steps=5)) for prompt in ("break", "a", "b", "c")
    )
    batches: list[set[str]] = []
    engine = FakeEngine(before_step=lambda ids: batches.append(set(ids)))
    with running_worker(settings(redis_url, worker_max_crashes=3), engine):
        assert outcome(queue, broken).state is JobState.FAILED
        for job_id in others:
            assert outcome(queue, job_id).state is JobState.FINISHED
    tries = [batch for batch in batches if broken in batch]
    assert len(tries) == 3
    assert tries[-1] == {broken}


def test_job_that_takes_too_long_fails(redis_url: str) -> None:
    queue = job_queue(redis_url)
    with running_worker(settings(redis_url, job_timeout_s=1), FakeEngine(step_s=0.05)):
        view = outcome(queue, queue.submit(request(steps=ENDLESS)))
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert isinstance(DarkroomError.from_record(view.error), DeadlineExceeded)


def test_input_images_are_read_from_the_store(redis_url: str) -> None:
    queue = job_queue(redis_url)
    store = ObjectStore.open("memory:///")
    png = b"any bytes: the fake engine does not look"
    store.put(input_key(png), png, "image/png")
    given: dict[str, bytes | None] = {}

    class Curious(FakeEngine):
        def admit(self, job):  # type: ignore[no-untyped-def]
            given[job.id] = job.image
            super().admit(job)

    changed = {"task": "img2img", "strength": 0.5}
    with running_worker(settings(redis_url), Curious(), store):
        job_id = queue.submit(request(**changed, image_key=input_key(png)))
        missing = queue.submit(request(**changed, image_key=input_key(b"never stored")))
        assert outcome(queue, job_id).state is JobState.FINISHED
        view = outcome(queue, missing)
    assert given == {job_id: png}
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.kind == "UnknownImage"


def test_no_more_jobs_are_claimed_than_there_are_slots(redis_url: str) -> None:
    queue = job_queue(redis_url)
    gate = threading.Event()

    def closed(_: list[str]) -> None:
        gate.wait()

    engine = FakeEngine(slots=2, before_step=closed)
    with running_worker(settings(redis_url), engine):
        ids = [queue.submit(request()) for _ in range(5)]
        wait_for(lambda: len(engine.admitted) >= 1)
        assert queue.depth(MODEL) >= 3
        gate.set()
        for job_id in ids:
            assert outcome(queue, job_id).state is JobState.FINISHED
    assert sorted(engine.admitted) == sorted(ids)


def test_two_workers_never_run_the_same_job(redis_url: str) -> None:
    queue = job_queue(redis_url)
    running_ids: dict[str, set[str]] = {}
    shared: list[set[str]] = []
    lock = threading.Lock()

    def engine(name: str) -> FakeEngine:
        def note(ids: list[str]) -> None:
            with lock:
                running_ids[name] = set(ids)
                both = running_ids.get("a", set()) & running_ids.get("b", set())
                shared.extend([both] if both else [])

        return FakeEngine(slots=3, step_s=0.002, before_step=note)

    a, b = engine("a"), engine("b")
    ids = [queue.submit(request()) for _ in range(40)]
    with running_worker(settings(redis_url), a), running_worker(settings(redis_url), b):
        for job_id in ids:
            assert outcome(queue, job_id).state is JobState.FINISHED
    assert shared == []
    assert sorted(a.admitted + b.admitted) == sorted(ids)


def test_rq_info_shows_the_queue_and_changes_nothing(redis_url: str) -> None:
    queue = job_queue(redis_url)
    begun, shown_all = threading.Event(), threading.Event()

    def before_step(_: list[str]) -> None:
        if begun.is_set():
            shown_all.wait()  # however long RQ takes to start, the job still runs
        begun.set()

    engine = FakeEngine(slots=1, before_step=before_step)
    with running_worker(settings(redis_url), engine) as worker:
        try:
            running, waiting = queue.submit(request(steps=60)), queue.submit(request())
            wait_for(lambda: queue.view(running).progress is not None)
            wait_for(lambda: client(redis_url).hget(worker.key, "state") == b"busy")
            command = [sys.executable, "-m", "rq.cli", "info", "--raw", "--url", redis_url]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        finally:
            shown_all.set()
        assert f"queue darkroom-{MODEL} 1, 1 executing" in shown
        assert f"worker {worker.name}" in shown
        assert "busy" in shown
        assert outcome(queue, running).state is JobState.FINISHED
        assert outcome(queue, waiting).state is JobState.FINISHED


def test_worker_obeys_commands_of_rq(redis_url: str) -> None:
    queue = job_queue(redis_url)
    redis = client(redis_url)
    with running_worker(settings(redis_url), FakeEngine(step_s=0.1)) as worker:
        by_job, by_execution = (queue.submit(request(steps=ENDLESS)) for _ in range(2))
        wait_for(lambda: len(worker.consumer.claims) == 2)
        send_stop_job_command(redis, by_job, serializer="json")
        assert outcome(queue, by_job).state is JobState.CANCELLED
        wait_for(lambda: len(worker.consumer.claims) == 1)
        [claim] = worker.consumer.claims
        send_stop_execution_command(redis, by_execution, claim.execution_id)
        assert outcome(queue, by_execution).state is JobState.CANCELLED
        send_shutdown_command(redis, worker.name)
        wait_for(lambda: redis.scard("rq:workers") == 0)


def test_rq_shows_no_prompts(redis_url: str) -> None:
    queue = job_queue(redis_url)
    secret = "canary in the coal mine"
    job_id = queue.submit(request(prompt=secret))
    fields = client(redis_url).hgetall(f"rq:job:{job_id}")
    assert not any(secret.encode() in value for value in fields.values())
    assert fields[b"description"] == b"generate"
