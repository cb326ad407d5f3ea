"""The consumer with a fake engine and a fake job source, without Redis."""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from redis import ConnectionError as RedisConnectionError

from protocol.errors import DarkroomError
from protocol.queue.job import JobResult, JobState, Progress
from protocol.queue.progress import Previews
from protocol.request.request import GenerationRequest
from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import MODEL, request, settings
from tests.worker.fake_engine import FakeEngine
from worker.consumer.consumer import MAX_FAILED_ALONE, Consumer, EngineBroken
from worker.consumer.context import WorkerContext
from worker.consumer.leases import ALONE_FROM, Claim, JobStatus
from worker.consumer.progress_reporter import ProgressReporter
from worker.consumer.settler import STATES
from worker.interfaces import OneModel
from worker.output.output_processor import OutputProcessor
from worker.telemetry.metrics import Metrics

MAX_CRASHES = 3


class FakeJobSource:
    """A queue of requests in memory; `ended` holds the jobs that ended and their statuses."""

    def __init__(self, *requests: GenerationRequest) -> None:
        self.waiting = deque(
            (f"{number:032x}", one, 0) for number, one in enumerate(requests, start=1)
        )
        self.requests = {job_id: one for job_id, one, _ in self.waiting}
        self.ended: list[tuple[str, JobStatus]] = []
        self.idle_claims: list[bool] = []
        self.faults = 0
        self._executions = itertools.count()

    def claim(self, idle: bool, models: Sequence[str]) -> Claim | None:
        assert models == (MODEL,)
        if not self.waiting or (self.waiting[0][2] >= ALONE_FROM and not idle):
            return None
        self.idle_claims.append(idle)
        job_id, _, crashes = self.waiting.popleft()
        return Claim(job_id, str(next(self._executions)), "", b"", 0.0, crashes)

    def read(self, claim: Claim) -> GenerationRequest:
        return self.requests[claim.job_id]

    def finish(self, claim: Claim, result: JobResult) -> JobStatus | None:
        if self.faults:
            self.faults -= 1
            raise RedisConnectionError("away")
        return self._end(claim, JobStatus.FINISHED)

    def fail(self, claim: Claim, error: DarkroomError) -> JobStatus | None:
        return self._end(claim, JobStatus.FAILED)

    def cancel(self, claim: Claim) -> JobStatus | None:
        return self._end(claim, JobStatus.CANCELED)

    def requeue(self, claim: Claim) -> JobStatus | None:
        return self._end(claim, JobStatus.QUEUED)

    def mark_stalled(self, claim: Claim) -> JobStatus | None:
        crashes = claim.stalled_count + 1
        if crashes == MAX_CRASHES:
            return self._end(claim, JobStatus.FAILED)
        self.waiting.appendleft((claim.job_id, self.requests[claim.job_id], crashes))
        return self._end(claim, JobStatus.QUEUED)

    def _end(self, claim: Claim, status: JobStatus) -> JobStatus:
        self.ended.append((claim.job_id, status))
        return status


class RecordingBoard:
    """Keeps published progress in `published`."""

    def __init__(self) -> None:
        self.published: list[Progress] = []

    def publish(self, progress: Progress) -> None:
        self.published.append(progress)

    def publish_all(self, progress: list[Progress], previews: Mapping[str, Previews]) -> None:
        self.published += progress


@contextmanager
def consumer(
    engine: FakeEngine, source: FakeJobSource, grace_s: float = 10.0
) -> Iterator[Consumer]:
    output = OutputProcessor(ObjectStore.open("memory:///"), threads=2, patience_s=0.0)
    context = WorkerContext(
        settings("redis://unused", worker_shutdown_grace_s=grace_s, worker_slots=2),
        OneModel(MODEL),
        engine,
        output,
        ProgressReporter(RecordingBoard()),  # type: ignore[arg-type]
        Metrics(),
    )
    yield Consumer(context, source)
    output.close()


def test_jobs_run_together_up_to_the_number_of_slots() -> None:
    batch_sizes: list[int] = []
    engine = FakeEngine(slots=3, before_step=lambda ids: batch_sizes.append(len(ids)))
    source = FakeJobSource(*(request() for _ in range(6)))
    with consumer(engine, source) as running:
        running.run(until_empty=True)
    assert [status for _, status in source.ended] == [JobStatus.FINISHED] * 6
    assert max(batch_sizes) == 3


def test_job_takes_one_slot_per_image() -> None:
    batch_sizes: list[int] = []
    engine = FakeEngine(slots=4, before_step=lambda ids: batch_sizes.append(len(ids)))
    source = FakeJobSource(*(request(n=3) for _ in range(4)))
    with consumer(engine, source) as running:
        running.run(until_empty=True)
    assert max(batch_sizes) == 2  # 3 + 3 exceeds 4, and no third is admitted


def test_stopped_consumer_finishes_its_jobs() -> None:
    source = FakeJobSource(request(steps=5), request())
    stops = iter([True])

    def stop_once(_: list[str]) -> None:
        if next(stops, False):
            running.stop()

    engine = FakeEngine(slots=1, before_step=stop_once)
    with consumer(engine, source, grace_s=1000.0) as running:
        running.run()
    assert [status for _, status in source.ended] == [JobStatus.FINISHED]
    assert len(source.waiting) == 1


def test_consumer_stopped_twice_requeues_its_jobs() -> None:
    source = FakeJobSource(request(steps=1000))

    def stop_twice(_: list[str]) -> None:
        running.stop()
        running.stop()

    with consumer(FakeEngine(before_step=stop_twice), source) as running:
        running.run()
    assert [status for _, status in source.ended] == [JobStatus.QUEUED]


def test_engine_that_fails_with_different_jobs_ends_the_worker() -> None:
    alone: list[str] = []
    engine = FakeEngine(before_step=lambda ids: alone.extend(ids if len(ids) == 1 else []))
    source = FakeJobSource(*(request(prompt="break") for _ in range(4)))
    with consumer(engine, source) as running, pytest.raises(EngineBroken):
        running.run(until_empty=True)
    # The first job counts as the cause until a second one fails; the others keep their tries.
    assert len(set(alone)) == MAX_FAILED_ALONE


def test_finished_image_survives_outage_of_redis() -> None:
    source = FakeJobSource(request())
    source.faults = 1
    engine = FakeEngine()
    with consumer(engine, source) as running:
        running.run(until_empty=True)
    assert [status for _, status in source.ended] == [JobStatus.FINISHED]
    assert len(engine.admitted) == 1


def test_stalled_jobs_run_alone() -> None:
    source = FakeJobSource(request(), request(), request())
    source.waiting = deque((job_id, one, ALONE_FROM) for job_id, one, _ in source.waiting)
    batch_sizes: list[int] = []
    with consumer(
        FakeEngine(before_step=lambda ids: batch_sizes.append(len(ids))), source
    ) as running:
        running.run(until_empty=True)
    assert set(batch_sizes) == {1}
    assert source.idle_claims == [True] * 3
    assert [status for _, status in source.ended] == [JobStatus.FINISHED] * 3


def test_lost_job_is_dropped_and_not_ended() -> None:
    source = FakeJobSource(request(steps=1000))

    def lose(_: list[str]) -> None:
        for claim in running.claims:
            running.lose_lease(claim.execution_id)

    with consumer(FakeEngine(before_step=lose), source) as running:
        running.run(until_empty=True)
        assert running.claims == []
    assert source.ended == []


def test_every_status_has_a_state() -> None:
    assert set(STATES) == set(JobStatus)
    assert set(STATES.values()) == set(JobState) - {JobState.RUNNING}
