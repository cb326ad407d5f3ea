"""What the store is swept of, and that nothing a live job needs is."""

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

from protocol.errors import UnknownImage
from protocol.queue.job import TERMINAL, JobResult, JobView, Timings
from protocol.request.object_keys import OutputFormat, input_key, new_job_id, result_key
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import MARGIN_S, Pins
from tests.worker.consumer.harness import MODEL, client, job_queue, request, settings
from worker.consumer.leases import Claim
from worker.consumer.rq_worker import RqJobSource
from worker.output.garbage_collector import GarbageCollector

ALWAYS_MY_TURN_S = 0.001
AGES_S = 10 * 86400


class Folder:
    """A store whose objects can be made old, with a sweeper and a ledger."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self.redis = client(redis_url)
        self.folder = folder
        self.store = ObjectStore.open(folder.as_uri())
        self.queue = job_queue(redis_url, max_queue_length=10_000)
        terms = settings(redis_url)
        self.holdings = Pins(self.redis, terms)
        self.sweeper = GarbageCollector(self.store, self.holdings, terms, ALWAYS_MY_TURN_S)
        self.ledger = RqJobSource(self.redis, "worker", [MODEL], terms)

    def sweep(self) -> None:
        self.redis.delete("darkroom:swept")
        self.sweeper.collect()

    def has(self, key: str) -> bool:
        try:
            self.store.get(key)
        except UnknownImage:
            return False
        return True

    def age(self, seconds: float = AGES_S) -> None:
        """Let this time pass for every object, and for every hold and record in Redis."""
        for path in self.folder.rglob("*"):
            if path.is_file():
                moment = path.stat().st_mtime - seconds
                os.utime(path, (moment, moment))
        self._earlier("darkroom:held", seconds)
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

    def accept(self, picture: bytes, job_id: str | None = None) -> str:
        """As the service does it: hold, write, submit."""
        key = input_key(picture)
        self.queue.pin([key])
        self.store.put(key, picture, "image/png")
        one = request(task="img2img", strength=0.5, image_key=key)
        return self.queue.submit(one, job_id)

    def finish(self, claim: Claim) -> str:
        key = result_key(claim.job_id, 0, OutputFormat.PNG)
        self.store.put(key, b"a picture", "image/png")
        self.ledger.finish(claim, JobResult(images=(), timings=Timings()))
        return key


@pytest.fixture
def folder(redis_url: str, tmp_path: Path) -> Folder:
    return Folder(redis_url, tmp_path)


def test_results_go_with_their_jobs_record_and_inputs_with_their_last_job(folder: Folder) -> None:
    job_id = folder.accept(b"input")
    claim = folder.ledger.claim(idle=True, models=[MODEL])
    assert claim is not None
    result = folder.finish(claim)
    folder.sweep()
    assert folder.has(result)
    assert folder.has(input_key(b"input"))
    folder.redis.delete(f"rq:job:{job_id}")
    folder.sweep()
    assert folder.has(result)  # too young, whatever Redis says
    folder.age()
    folder.sweep()
    assert not folder.has(result)
    assert not folder.has(input_key(b"input"))


def test_old_results_stay_while_there_is_a_record(folder: Folder) -> None:
    folder.accept(b"input")
    claim = folder.ledger.claim(idle=True, models=[MODEL])
    assert claim is not None
    result = folder.finish(claim)
    for path in folder.folder.rglob("*.png"):
        os.utime(path, (0, 0))
    folder.sweep()
    assert folder.has(result)


def test_an_upload_that_is_wanted_again_is_held_again(folder: Folder) -> None:
    folder.accept(b"input")
    folder.age()
    folder.accept(b"input")
    folder.sweep()
    assert folder.has(input_key(b"input"))


def test_who_wants_what_is_being_deleted_waits_and_writes_it_anew(folder: Folder) -> None:
    key = input_key(b"input")
    assert folder.holdings.mark_for_deletion([key]) == [key]
    accepting = threading.Thread(target=folder.accept, args=(b"input",))
    accepting.start()
    time.sleep(0.05)
    assert folder.queue.depth(MODEL) == 0
    folder.store.delete(key)
    folder.holdings.unmark([key])
    accepting.join()
    assert folder.has(key)
    assert folder.holdings.mark_for_deletion([key]) == []


def test_what_is_not_ours_is_left_alone(folder: Folder) -> None:
    alien = folder.folder / "results" / "notes.txt"
    alien.parent.mkdir()
    alien.write_text("mine")
    os.utime(alien, (0, 0))
    folder.sweep()
    assert alien.read_text() == "mine"


def test_one_of_many_sweeps(folder: Folder) -> None:
    assert folder.holdings.claim_collection(60)
    assert not folder.holdings.claim_collection(60)


class SweepMachine(RuleBasedStateMachine):
    """Jobs come, run, end and expire in any order, and the sweeper comes by at any moment."""

    redis_url: str
    path: Path

    @initialize()
    def begin(self) -> None:
        client(self.redis_url).flushall()
        self.folder = Folder(self.redis_url, self.path / new_job_id())
        self.inputs: dict[str, bytes] = {}  # by job
        self.claims: list[Claim] = []
        self.results: dict[str, str] = {}  # by job

    @rule(picture=st.sampled_from([b"a", b"b", b"c"]))
    def accept(self, picture: bytes) -> None:
        self.inputs[self.folder.accept(picture)] = picture

    @rule()
    def claim(self) -> None:
        claim = self.folder.ledger.claim(idle=True, models=[MODEL])
        if claim is not None:
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), well=st.booleans())
    def end(self, data: st.DataObject, well: bool) -> None:
        claim = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        if well:
            self.results[claim.job_id] = self.folder.finish(claim)
        else:
            self.folder.ledger.requeue(claim)

    @rule(seconds=st.sampled_from([3000, MARGIN_S + 3700, AGES_S]))
    def time_passes(self, seconds: int) -> None:
        self.folder.age(seconds)
        self.folder.ledger.leases.fail_expired()
        for claim in self.claims[:]:  # as the loop does, at a step's boundary
            at = self.folder.redis.hget(f"rq:job:{claim.job_id}", "deadline_at")
            if at is not None and float(at) < time.time():
                self.claims.remove(claim)
                self.folder.ledger.cancel(claim)

    @rule()
    def sweep(self) -> None:
        self.folder.sweep()

    @invariant()
    def what_a_live_job_needs_is_there(self) -> None:
        if not hasattr(self, "inputs"):
            return
        found = self.folder.queue.view_many([(job_id, None) for job_id in self.inputs])
        states = {view.id: view.state for view in found if isinstance(view, JobView)}
        for job_id, picture in self.inputs.items():
            if job_id in states and states[job_id] not in TERMINAL:
                assert self.folder.has(input_key(picture))
            if job_id in states and job_id in self.results:
                assert self.folder.has(self.results[job_id])


def test_nothing_a_live_job_needs_is_ever_swept(redis_url: str, tmp_path: Path) -> None:
    class Machine(SweepMachine):
        pass

    Machine.redis_url, Machine.path = redis_url, tmp_path
    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None),
    )
