"""One job's stages and inputs, with a fake engine and without Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocol.errors import DarkroomError, JobFailed
from protocol.queue.job import JobResult
from protocol.request.object_keys import input_key
from protocol.request.request import ControlUse
from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import MODEL, request, settings
from tests.worker.consumer.test_consumer import RecordingBoard
from tests.worker.fake_engine import FakeEngine
from worker.consumer.context import WorkerContext
from worker.consumer.job_run import NEXT_STAGES, JobRun, Stage
from worker.consumer.leases import Claim
from worker.consumer.progress_reporter import ProgressReporter
from worker.interfaces import AdmittedJob, OneModel
from worker.output.output_processor import OutputProcessor
from worker.telemetry.metrics import Metrics


class RecordingEngine(FakeEngine):
    """Keeps the jobs that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[AdmittedJob] = []

    def admit(self, job: AdmittedJob) -> None:
        self.jobs.append(job)
        super().admit(job)


@pytest.fixture
def context() -> Iterator[WorkerContext]:
    output = OutputProcessor(ObjectStore.open("memory:///"), threads=1, patience_s=0)
    yield WorkerContext(
        settings("redis://unused"),
        OneModel(MODEL),
        RecordingEngine(),
        output,
        ProgressReporter(RecordingBoard()),  # type: ignore[arg-type]
        Metrics(),
    )
    output.close()


def run_of(context: WorkerContext, **changes: object) -> tuple[JobRun, list[object]]:
    """A run, and the list that its outcome is added to."""
    outcomes: list[object] = []

    def on_end(run: JobRun, outcome: JobResult | DarkroomError) -> None:
        outcomes.append(outcome)

    claim = Claim("0" * 32, "execution", "", b"", 0.0, 0)
    return JobRun(context, claim, request(**changes), on_end), outcomes


def test_job_passes_through_its_stages(context: WorkerContext) -> None:
    run, outcomes = run_of(context, steps=1)
    run.prepare(on_ready=lambda: None)
    assert (run.stage, run.ready, run.active) == (Stage.WAITING, True, True)
    run.admit()
    assert (run.stage, run.ready, run.active) == (Stage.RUNNING, False, True)
    context.engine.step()
    assert (run.stage, run.active) == (Stage.DELIVERING, False)
    context.output.submit(lambda: None).result()  # after the delivery
    assert [type(outcome) for outcome in outcomes] == [JobResult]


def test_refused_job_fails(context: WorkerContext) -> None:
    run, outcomes = run_of(context, prompt="refuse")
    run.admit()
    assert run.stage is Stage.DELIVERING
    context.output.submit_ending(lambda: None).result()  # after the ending
    assert [type(outcome) for outcome in outcomes] == [JobFailed]


def test_aborted_job_leaves_the_engine_and_is_not_ended(context: WorkerContext) -> None:
    run, outcomes = run_of(context)
    run.admit()
    run.abort()
    run.abort()
    assert context.engine.idle
    with pytest.raises(AssertionError, match="ABORTED -> RUNNING"):
        run.admit()
    assert outcomes == []


def test_every_stage_has_its_next_stages() -> None:
    assert set(NEXT_STAGES) == set(Stage)
    assert all(Stage.ABORTED in following for following in NEXT_STAGES.values())


def test_control_images_are_in_the_order_of_the_request(context: WorkerContext) -> None:
    images = {input_key(data): data for data in (b"image", b"one", b"two")}
    for key, data in images.items():
        context.output.store.put(key, data, "image/png")
    image, one, two = images
    controls = tuple(ControlUse(model="edges", image_key=key) for key in (two, one, two))
    run, _ = run_of(context, task="img2img", strength=0.5, image_key=image, controls=controls)
    run.prepare(on_ready=lambda: None)
    context.output.submit(lambda: None).result()  # after the inputs
    run.admit()
    assert isinstance(context.engine, RecordingEngine)
    (job,) = context.engine.jobs
    assert (job.image, job.mask, job.controls) == (b"image", None, (b"two", b"one", b"two"))
