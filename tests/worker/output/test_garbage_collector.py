"""The garbage collector deletes expired objects, and nothing that a live job needs."""

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from protocol.clients.files import ClientFiles, FileBounds
from protocol.errors import UnknownImage
from protocol.queue.job import TERMINAL, JobResult, JobView, Timings
from protocol.request.object_keys import (
    OutputFormat,
    input_key,
    new_job_id,
    result_key,
    upload_key,
)
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import MARGIN_S, Pins
from tests.worker.consumer.harness import MODEL, client, job_queue, request, settings
from worker.consumer.leases import Claim
from worker.consumer.rq_worker import RqJobSource
from worker.output.garbage_collector import GarbageCollector

ALWAYS_DUE_S = 0.001
AGES_S = 10 * 86400


class Folder:
    """A store whose objects can be made old, with a garbage collector and a job source."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.redis = client(redis_url)
        self.folder = folder
        self.store = ObjectStore.open(folder.as_uri())
        self.queue = job_queue(redis_url, max_queue_length=10_000)
        terms = settings(redis_url)
        self.pins = Pins(self.redis, terms)
        self.collector = GarbageCollector(self.store, self.pins, terms, ALWAYS_DUE_S)
        self.source = RqJobSource(self.redis, "worker", [MODEL], terms)

    def collect(self) -> None:
        self.redis.delete("darkroom:swept")
        self.collector.collect()

    def has(self, key: str) -> bool:
        try:
            self.store.get(key)
        except UnknownImage:
            return False
        return True

    def age(self, seconds: float = AGES_S) -> None:
        """Let this time pass for every object, and for every pin and record in Redis."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                moment = path.stat().st_mtime - seconds
                os.utime(path, (moment, moment))
        for pins in ("darkroom:held", *self.redis.scan_iter("darkroom:users:*")):
            self._earlier(str(pins, "ascii") if isinstance(pins, bytes) else pins, seconds)
        for lane in self.redis.scan_iter("rq:job:*"):
            left = self.redis.ttl(lane)
            if left > 0:
                self.redis.expire(lane, max(0, int(left - seconds)))
            else:
                self.redis.hincrbyfloat(lane, "deadline_at", -seconds)
        self._earlier(f"darkroom:deadlines:darkroom-{MODEL}", seconds)

    def _earlier(self, key: str, seconds: float) -> None:
        for member in self.redis.zrange(key, 0, -1):
            assert isinstance(member, bytes)
            self.redis.zincrby(key, -seconds, member)

    def accept(self, image: bytes, job_id: str | None = None) -> str:
        """Pin, write and submit, as the service does."""
        key = input_key(image)
        self.queue.pin([key])
        self.store.put(key, image, "image/png")
        one = request(task="img2img", strength=0.5, image_key=key)
        return self.queue.submit(one, job_id)

    def finish(self, claim: Claim) -> str:
        key = result_key(claim.job_id, 0, OutputFormat.PNG)
        self.store.put(key, b"an image", "image/png")
        self.source.finish(claim, JobResult(images=(), timings=Timings()))
        return key


@pytest.fixture
def folder(redis_url: str, tmp_path: Path) -> Folder:
    return Folder(redis_url, tmp_path)


def test_results_are_deleted_with_their_record_and_inputs_with_their_last_job(
    folder: Folder,
) -> None:
    job_id = folder.accept(b"input")
    claim = folder.source.claim(idle=True, models=[MODEL])
    assert claim is not None
    result = folder.finish(claim)
    folder.collect()
    assert folder.has(result)
    assert folder.has(input_key(b"input"))
    folder.redis.delete(f"rq:job:{job_id}")
    folder.collect()
    assert folder.has(result)  # too new, although Redis has no record
    folder.age()
    folder.collect()
    assert not folder.has(result)
    assert not folder.has(input_key(b"input"))


def test_old_results_stay_while_their_record_exists(folder: Folder) -> None:
    folder.accept(b"input")
    claim = folder.source.claim(idle=True, models=[MODEL])
    assert claim is not None
    result = folder.finish(claim)
    for path in folder.folder.rglob("*.png"):
        os.utime(path, (0, 0))
    folder.collect()
    assert folder.has(result)


def test_input_uploaded_again_is_pinned_again(folder: Folder) -> None:
    folder.accept(b"input")
    folder.age()
    folder.accept(b"input")
    folder.collect()
    assert folder.has(input_key(b"input"))


def test_pin_waits_for_a_deletion_and_the_input_is_written_again(folder: Folder) -> None:
    key = input_key(b"input")
    assert folder.pins.mark_for_deletion([key]) == [key]
    accepting = threading.Thread(target=folder.accept, args=(b"input",))
    accepting.start()
    time.sleep(0.05)
    assert folder.queue.depth(MODEL) == 0
    folder.store.delete(key)
    folder.pins.unmark([key])
    accepting.join()
    assert folder.has(key)
    assert folder.pins.mark_for_deletion([key]) == []


def test_objects_of_others_are_not_deleted(folder: Folder) -> None:
    foreign = folder.folder / "results" / "notes.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    os.utime(foreign, (0, 0))
    folder.collect()
    assert foreign.read_text() == "mine"


def test_one_of_many_workers_collects(folder: Folder) -> None:
    assert folder.pins.claim_collection(60)
    assert not folder.pins.claim_collection(60)


class CollectionMachine(RuleBasedStateMachine):
    """Jobs are submitted, run, end and expire in any order, with collections at any moment."""

    redis_url: str
    path: Path

    @initialize()
    def begin(self) -> None:
        client(self.redis_url).flushall()
        self.folder = Folder(self.redis_url, self.path / new_job_id())
        self.inputs: dict[str, bytes] = {}  # by job
        self.claims: list[Claim] = []
        self.results: dict[str, str] = {}  # by job

    @rule(image=st.sampled_from([b"a", b"b", b"c"]))
    def accept(self, image: bytes) -> None:
        self.inputs[self.folder.accept(image)] = image

    @rule()
    def claim(self) -> None:
        claim = self.folder.source.claim(idle=True, models=[MODEL])
        if claim is not None:
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), well=st.booleans())
    def end(self, data: st.DataObject, well: bool) -> None:
        claim = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        if well:
            self.results[claim.job_id] = self.folder.finish(claim)
        else:
            self.folder.source.requeue(claim)

    @rule(seconds=st.sampled_from([3000, MARGIN_S + 3700, AGES_S]))
    def time_passes(self, seconds: int) -> None:
        self.folder.age(seconds)
        self.folder.source.leases.fail_expired()
        for claim in self.claims[:]:  # as the loop does, at a step's boundary
            at = self.folder.redis.hget(f"rq:job:{claim.job_id}", "deadline_at")
            if at is not None and float(at) < time.time():
                self.claims.remove(claim)
                self.folder.source.cancel(claim)

    @rule()
    def collect(self) -> None:
        self.folder.collect()

    @invariant()
    def what_a_live_job_needs_is_there(self) -> None:
        if not hasattr(self, "inputs"):
            return
        found = self.folder.queue.view_many([(job_id, None) for job_id in self.inputs])
        states = {view.id: view.state for view in found if isinstance(view, JobView)}
        for job_id, image in self.inputs.items():
            if job_id in states and states[job_id] not in TERMINAL:
                assert self.folder.has(input_key(image))
            if job_id in states and job_id in self.results:
                assert self.folder.has(self.results[job_id])


def test_no_object_that_a_live_job_needs_is_deleted(redis_url: str, tmp_path: Path) -> None:
    class Machine(CollectionMachine):
        pass

    Machine.redis_url, Machine.path = redis_url, tmp_path
    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None),
    )


def test_old_uploads_without_a_record_are_deleted(folder: Folder) -> None:
    files = ClientFiles(folder.redis, folder.store, FileBounds(60, 10, 1000))
    kept, lost = (files.add("ann", "a", b"file", "image/png") for _ in range(2))
    folder.redis.delete(f"darkroom:file:{lost.id}")
    folder.collect()
    assert folder.has(upload_key(lost.id))  # too new: its record may not be written yet
    folder.age()
    folder.collect()
    assert folder.has(upload_key(kept.id))
    assert not folder.has(upload_key(lost.id))
