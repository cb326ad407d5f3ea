"""Any order of submits, claims, endings, cancels, deaths, reapings, missed deadlines and expiries,
of jobs of all priorities, several clients and two models, against a model.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from protocol.errors import ClientQueueFull, JobFailed, QueueFull, UnknownJob
from protocol.queue.job import TERMINAL, JobResult, JobState, Timings
from protocol.queue.job_queue import JobQueue, queue_name
from protocol.request.request import GenerationRequest, Priority
from protocol.settings import Settings
from tests.worker.consumer.harness import MODEL, request, settings
from tests.worker.consumer.line import Line
from worker.consumer.leases import ALONE_FROM, Claim, JobStatus
from worker.consumer.rq_worker import RqJobSource

MAX_CRASHES = 3
NAMES = ("ann", "bob")
MODELS = (MODEL, "another")
LEASES = {model: f"darkroom:leases:darkroom-{model}" for model in MODELS}
DEADLINES = {model: f"darkroom:deadlines:darkroom-{model}" for model in MODELS}
LANES = [queue_name(model, priority) for model in MODELS for priority in Priority]
REGISTRIES = [f"rq:{kind}:{lane}" for kind in ("finished", "failed", "canceled") for lane in LANES]
PATIENCE = 2
MOST_WAITING, MOST_OF_A_CLIENT = 8, 3

JOB_STATES = {
    JobStatus.QUEUED: JobState.QUEUED,
    JobStatus.FINISHED: JobState.FINISHED,
    JobStatus.FAILED: JobState.FAILED,
    JobStatus.CANCELED: JobState.CANCELLED,
}

ENDINGS = {
    "finish": lambda ledger, claim: ledger.finish(claim, JobResult(images=(), timings=Timings())),
    "fail": lambda ledger, claim: ledger.fail(claim, JobFailed("it was to be so")),
    "cancel": lambda ledger, claim: ledger.cancel(claim),
    "hand back": lambda ledger, claim: ledger.requeue(claim),
    "suspect": lambda ledger, claim: ledger.mark_stalled(claim),
}


@dataclass
class Job:
    """What ought to be true of one job."""

    request: GenerationRequest
    client: str
    late: bool = False  # its deadline is over
    state: JobState = JobState.QUEUED
    crashes: int = 0
    cancel: bool = False
    holder: Claim | None = None
    settled: tuple[Claim, JobStatus] | None = None


@dataclass
class Worker:
    """One that may die; its claims stay known, as they do to a worker that was only frozen."""

    ledger: RqJobSource
    claims: list[Claim] = field(default_factory=list)


class JobsMachine(RuleBasedStateMachine):
    """The real queue and ledger on one side, `Job`s and a list on the other."""

    redis_url: str  # of an empty server; set by the test

    workers: Bundle[Worker] = Bundle("workers")
    held: Bundle[tuple[Worker, Claim]] = Bundle("held")  # also by the dead
    ids: Bundle[str] = Bundle("ids")

    @initialize(target=workers)
    def begin(self) -> MultipleResults[Worker]:
        self.redis = Redis.from_url(self.redis_url)
        self.text = Redis.from_url(self.redis_url, decode_responses=True)
        self.redis.flushall()
        bounds = Settings(
            redis_url=self.redis_url,
            max_queue_length=MOST_WAITING,
            max_queue_per_client=MOST_OF_A_CLIENT,
        )
        self.queue = JobQueue(self.redis, bounds)
        self.jobs: dict[str, Job] = {}
        self.expired: set[str] = set()
        self.lines = {model: Line(PATIENCE) for model in MODELS}
        self.silent: set[str] = set()  # members whose leases ran out
        terms = settings(
            self.redis_url, worker_max_crashes=MAX_CRASHES, worker_priority_patience=PATIENCE
        )
        return multiple(*(Worker(RqJobSource(self.redis, name, MODELS, terms)) for name in NAMES))

    # Several at a time: Hypothesis leaves whole rules out of many runs, and rare calls do little.
    @rule(
        target=ids,
        jobs=st.integers(1, 3),
        model=st.sampled_from(MODELS),
        client=st.sampled_from(["", "carl", "dora", "emil"]),
        priority=st.sampled_from(Priority),
        steps=st.integers(1, 3),
    )
    def submit(
        self, jobs: int, model: str, client: str, priority: Priority, steps: int
    ) -> MultipleResults[str]:
        one = request(model=model, priority=priority, steps=steps)
        return multiple(*filter(None, (self._submit(one, client) for _ in range(jobs))))

    def _submit(self, one: GenerationRequest, client: str) -> str | None:
        line = self.lines[one.model]
        self._drop_late(one.model)
        mine = [job_id for job_id in line.ids if self.jobs[job_id].client == client]
        try:
            job_id = self.queue.submit(one, client=client)
        except ClientQueueFull:
            assert client != ""
            assert len(mine) >= MOST_OF_A_CLIENT  # what was handed back counts, too
            return None
        except QueueFull:
            assert len(line.ids) >= MOST_WAITING
            return None
        assert len(line.ids) < MOST_WAITING
        assert client == "" or len(mine) < MOST_OF_A_CLIENT
        assert self.queue.submit(one, job_id, client=client) == job_id  # as after a lost answer
        self.jobs[job_id] = Job(one, client)
        line.lanes[one.priority].join(job_id, client, one.work)
        return job_id

    @rule(job_id=ids)
    def deadline_passes(self, job_id: str) -> None:
        if job_id in self.jobs and self.jobs[job_id].state not in TERMINAL:
            self.jobs[job_id].late = True
            self.redis.hset(f"rq:job:{job_id}", "deadline_at", 0)
            if job_id in self._line_of(job_id):
                self.redis.zadd(DEADLINES[self.jobs[job_id].request.model], {job_id: 0})

    @rule(worker=workers)
    def drop_late(self, worker: Worker) -> None:
        waiting = [job_id for line in self.lines.values() for job_id in line.ids]
        late = sorted(job_id for job_id in waiting if self.jobs[job_id].late)
        assert sorted(worker.ledger.leases.fail_expired()) == late
        for model in MODELS:
            self._drop_late(model)

    def _drop_late(self, model: str) -> None:
        for job_id in self.lines[model].ids:
            if self.jobs[job_id].late:
                self._drop(job_id)

    def _line_of(self, job_id: str) -> Line:
        return self.lines[self.jobs[job_id].request.model]

    def _drop(self, job_id: str) -> None:
        self.jobs[job_id].state = JobState.FAILED
        self._line_of(job_id).leave(job_id)

    @rule(job_id=ids)
    def expire(self, job_id: str) -> None:
        """The time for which an ended job is kept passes."""
        if job_id in self.jobs and self.jobs[job_id].state in TERMINAL:
            del self.jobs[job_id]
            self.expired.add(job_id)
            self.redis.expire(f"rq:job:{job_id}", 0)
            for registry in REGISTRIES:
                self.redis.zadd(registry, {job_id: 0}, xx=True)

    @rule(job_id=ids, client=st.sampled_from(["carl", "dora"]))
    def strangers_are_shown_nothing(self, job_id: str, client: str) -> None:
        if job_id not in self.jobs or self.jobs[job_id].client != client:
            for call in (self.queue.view, self.queue.cancel):
                with pytest.raises(UnknownJob):
                    call(job_id, client)
        else:
            assert self.queue.view(job_id, client).state is self.jobs[job_id].state

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        if job is None:
            with pytest.raises(UnknownJob):
                self.queue.cancel(job_id)
            return
        view = self.queue.cancel(job_id)
        if job.state is JobState.QUEUED:
            job.state = JobState.CANCELLED
            self._line_of(job_id).leave(job_id)
        elif job.state is JobState.RUNNING:
            job.cancel = True
        assert view.state is job.state

    @rule(
        target=held,
        worker=workers,
        times=st.integers(1, 3),
        models=st.lists(st.sampled_from(MODELS), unique=True),
    )
    def claim(
        self, worker: Worker, times: int, models: list[str]
    ) -> MultipleResults[tuple[Worker, Claim]]:
        claims = [self._claim(worker, models) for _ in range(times)]
        return multiple(*((worker, claim) for claim in claims if claim is not None))

    def _claim(self, worker: Worker, models: list[str]) -> Claim | None:
        """The head of the first model that has one; those before it are looked through in vain."""
        idle = not worker.claims
        claim = worker.ledger.claim(idle, models)
        head = next(filter(None, map(self._head, models)), None)
        if head is None or (self.jobs[head].crashes >= ALONE_FROM and not idle):
            assert claim is None
            return None
        job = self.jobs[head]
        assert claim is not None
        assert claim.job_id == head
        assert claim.stalled_count == job.crashes
        assert worker.ledger.read(claim) == job.request
        self._line_of(head).take()
        job.state, job.holder = JobState.RUNNING, claim
        worker.claims.append(claim)
        return claim

    def _head(self, model: str) -> str | None:
        """What is next there; what is late by now is dropped on the way."""
        while (head := self.lines[model].next()) is not None and self.jobs[head].late:
            self._drop(head)
        return head

    @rule(held=held, how=st.sampled_from(sorted(ENDINGS)))
    def end(self, held: tuple[Worker, Claim], how: str) -> None:
        worker, claim = held
        job = self.jobs.get(claim.job_id)
        answer = ENDINGS[how](worker.ledger, claim)
        if job is not None and job.holder is claim:
            expected = {
                "finish": JobStatus.FINISHED,
                "fail": JobStatus.FAILED,
                "cancel": JobStatus.CANCELED,
                "hand back": self._again(job),
                "suspect": self._as_suspect(job) if how == "suspect" else None,
            }[how]
            assert answer == expected
            self._left(claim, answer)
            job.settled = claim, answer
        elif job is not None and job.settled is not None and job.settled[0] is claim:
            assert answer is job.settled[1]
        else:
            assert answer is None
        if claim in worker.claims:
            worker.claims.remove(claim)

    @rule(held=held)
    def renew(self, held: tuple[Worker, Claim]) -> None:
        worker, claim = held
        with self.redis.pipeline(transaction=False) as pipe:
            worker.ledger.leases.renew([claim], pipe)
            [lost] = pipe.execute()
        job = self.jobs.get(claim.job_id)
        ours = job is not None and job.holder is claim
        assert lost == ([] if ours else [claim.member.encode()])
        self.silent.discard(claim.member)

    @rule(worker=workers)
    def die(self, worker: Worker) -> None:
        """Its leases run out, with no need to wait for it."""
        for claim in worker.claims:
            job = self.jobs.get(claim.job_id)
            if job is not None and job.holder is claim:
                self.redis.zadd(LEASES[job.request.model], {claim.member: 0})
                self.silent.add(claim.member)
        worker.claims.clear()

    @rule(worker=workers)
    def reap(self, worker: Worker) -> None:
        expected = []
        silent = sorted(self.silent, key=lambda member: (self._place_of(member), member))
        for member in silent:
            job = self.jobs[member.partition(":")[0]]
            assert job.holder is not None
            status = self._as_suspect(job)
            expected.append((job.holder.job_id, status))
            self._left(job.holder, status)
        assert worker.ledger.leases.requeue_stalled() == expected
        for registry in REGISTRIES:
            assert self.expired.isdisjoint(self.text.zrange(registry, 0, -1))

    def _place_of(self, member: str) -> int:
        """That of its model: pools are looked through in their order."""
        return MODELS.index(self.jobs[member.partition(":")[0]].request.model)

    def teardown(self) -> None:
        self.redis.close()
        self.text.close()

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        if not hasattr(self, "jobs"):
            return
        with self.text.pipeline() as pipe:
            for lane in LANES:
                pipe.lrange(f"rq:queue:{lane}", 0, -1)
            for key in (*LEASES.values(), *REGISTRIES):
                pipe.zrange(key, 0, -1)
            for job_id in self.jobs:
                pipe.ttl(f"rq:job:{job_id}")
            found = pipe.execute()
        before = len(LANES) + len(LEASES), len(LANES) + len(LEASES) + len(REGISTRIES)
        lists, leases = found[: len(LANES)], found[len(LANES) : before[0]]
        registries, ttls = found[before[0] : before[1]], found[before[1] :]
        registered = {job_id for registry in registries for job_id in registry} - self.expired
        ended = [job_id for job_id, job in self.jobs.items() if job.state in TERMINAL]
        swept = [job_id for job_id, ttl in zip(self.jobs, ttls, strict=True) if ttl > 0]
        lanes = [line.lanes[priority] for line in self.lines.values() for priority in Priority]
        for line, listed in zip(lanes, lists, strict=True):
            assert sorted(listed) == sorted(entry[2] for entry in line.entries)
        for model, leased in zip(MODELS, leases, strict=True):
            held = [job for job in self.jobs.values() if job.request.model == model]
            assert sorted(leased) == sorted(job.holder.member for job in held if job.holder)
        assert sorted(registered) == sorted(ended) == sorted(swept)
        for job_id, job in self.jobs.items():
            assert self.queue.view(job_id).state is job.state
            assert (job_id in self._line_of(job_id)) == (job.state is JobState.QUEUED)
            assert (job.holder is not None) == (job.state is JobState.RUNNING)

    @invariant()
    def rq_sees_what_each_worker_holds(self) -> None:
        if not hasattr(self, "jobs"):
            return
        shown = self.text.sunion([f"rq:worker:{name}:executions" for name in NAMES])
        held = {job.holder.member for job in self.jobs.values() if job.holder}
        assert shown == held

    def _again(self, job: Job) -> JobStatus:
        return JobStatus.CANCELED if job.cancel else JobStatus.QUEUED

    def _as_suspect(self, job: Job) -> JobStatus:
        job.crashes += 1
        return self._again(job) if job.crashes < MAX_CRASHES else JobStatus.FAILED

    def _left(self, claim: Claim, status: JobStatus) -> None:
        job = self.jobs[claim.job_id]
        job.holder, job.state = None, JOB_STATES[status]
        if status is JobStatus.QUEUED:
            lane = self._line_of(claim.job_id).lanes[job.request.priority]
            lane.join_in_front(claim.job_id)
        self.silent.discard(claim.member)


def test_no_order_of_events_loses_or_doubles_a_job(redis_url: str) -> None:
    class Machine(JobsMachine):
        pass

    Machine.redis_url = redis_url
    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(max_examples=100, stateful_step_count=50, deadline=None),
    )
