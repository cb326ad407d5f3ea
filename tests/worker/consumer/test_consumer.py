"""The loop alone: an engine and a ledger that are a few lines each, no Redis."""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest
from redis import ConnectionError as RedisConnectionError

from protocol.errors import DarkroomError
from protocol.queue.job import JobResult, JobState, Progress
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


class FakeLedger:
    """A queue of requests in memory; what ended how is in `ended`."""

    def __init__(self, *requests: GenerationRequest) -> None:
        self.waiting = deque(
            (f"{number:032x}", asked, 0) for number, asked in enumerate(requests, start=1)
        )
        self.requests = {job_id: asked for job_id, asked, _ in self.waiting}
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
        return Claim(job_id, str(next(self._executions)), "", b"", "", crashes)

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


class SilentBoard:
    """Progress that nobody hears; `told` keeps it."""

    def __init__(self) -> None:
        self.told: list[Progress] = []

    def publish(self, progress: Progress) -> None:
        self.told.append(progress)

    def publish_all(self, news: list[Progress], previews: Mapping[str, bytes]) -> None:
        self.told += news


@contextmanager
def loop(engine: FakeEngine, ledger: FakeLedger, grace_s: float = 10.0) -> Iterator[Consumer]:
    output = OutputProcessor(ObjectStore.open("memory:///"), threads=2, patience_s=0.0)
    context = WorkerContext(
        settings("redis://unused", worker_shutdown_grace_s=grace_s, worker_slots=2),
        OneModel(MODEL),
        engine,
        output,
        ProgressReporter(SilentBoard()),  # type: ignore[arg-type]
        Metrics(),
    )
    yield Consumer(context, ledger)
    output.close()


def test_jobs_are_drawn_together_as_far_as_there_is_room() -> None:
    companies: list[int] = []
    engine = FakeEngine(slots=3, before_step=lambda ids: companies.append(len(ids)))
    ledger = FakeLedger(*(request() for _ in range(6)))
    with loop(engine, ledger) as serving:
        serving.run(until_empty=True)
    assert [status for _, status in ledger.ended] == [JobStatus.FINISHED] * 6
    assert max(companies) == 3


def test_a_job_of_many_pictures_takes_as_many_slots() -> None:
    companies: list[int] = []
    engine = FakeEngine(slots=4, before_step=lambda ids: companies.append(len(ids)))
    ledger = FakeLedger(*(request(n=3) for _ in range(4)))
    with loop(engine, ledger) as serving:
        serving.run(until_empty=True)
    assert max(companies) == 2  # 3 + 3 overshoots 4, and no third comes in


def test_told_to_stop_it_finishes_what_it_holds() -> None:
    ledger = FakeLedger(request(steps=5), request())
    stops = iter([True])

    def stop_once(_: list[str]) -> None:
        if next(stops, False):
            serving.stop()

    engine = FakeEngine(slots=1, before_step=stop_once)
    with loop(engine, ledger, grace_s=1000.0) as serving:
        serving.run()
    assert [status for _, status in ledger.ended] == [JobStatus.FINISHED]
    assert len(ledger.waiting) == 1


def test_told_twice_it_hands_back_what_it_holds() -> None:
    ledger = FakeLedger(request(steps=1000))

    def stop_twice(_: list[str]) -> None:
        serving.stop()
        serving.stop()

    with loop(FakeEngine(before_step=stop_twice), ledger) as serving:
        serving.run()
    assert [status for _, status in ledger.ended] == [JobStatus.QUEUED]


def test_an_engine_that_fails_whatever_it_draws_ends_the_worker() -> None:
    alone: list[str] = []
    engine = FakeEngine(before_step=lambda ids: alone.extend(ids if len(ids) == 1 else []))
    ledger = FakeLedger(*(request(prompt="break") for _ in range(4)))
    with loop(engine, ledger) as serving, pytest.raises(EngineBroken):
        serving.run(until_empty=True)
    # The first was to blame until a second failed as well; the others kept their tries.
    assert len(set(alone)) == MAX_FAILED_ALONE


def test_a_picture_outlives_an_outage_of_redis() -> None:
    ledger = FakeLedger(request())
    ledger.faults = 1
    engine = FakeEngine()
    with loop(engine, ledger) as serving:
        serving.run(until_empty=True)
    assert [status for _, status in ledger.ended] == [JobStatus.FINISHED]
    assert len(engine.admitted) == 1


def test_suspects_are_drawn_alone() -> None:
    ledger = FakeLedger(request(), request(), request())
    ledger.waiting = deque((job_id, asked, ALONE_FROM) for job_id, asked, _ in ledger.waiting)
    companies: list[int] = []
    with loop(FakeEngine(before_step=lambda ids: companies.append(len(ids))), ledger) as serving:
        serving.run(until_empty=True)
    assert set(companies) == {1}
    assert ledger.idle_claims == [True] * 3
    assert [status for _, status in ledger.ended] == [JobStatus.FINISHED] * 3


def test_a_lost_job_is_dropped_without_a_word() -> None:
    ledger = FakeLedger(request(steps=1000))

    def lose(_: list[str]) -> None:
        for claim in serving.claims:
            serving.lose_lease(claim.execution_id)

    with loop(FakeEngine(before_step=lose), ledger) as serving:
        serving.run(until_empty=True)
        assert serving.claims == []
    assert ledger.ended == []


def test_a_state_is_told_for_every_status() -> None:
    assert set(STATES) == set(JobStatus)
    assert set(STATES.values()) == set(JobState) - {JobState.RUNNING}
