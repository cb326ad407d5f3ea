"""The queue in any order of events, compared with a simple model of it.

Submits, claims, endings, cancels, deaths of workers, requeues, missed deadlines, expiries,
deletions, retries and lists, of jobs of all priorities, several clients and two models.
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

from protocol.errors import ClientQueueFull, JobDeleted, JobFailed, QueueFull, UnknownJob
from protocol.queue.job import TERMINAL, JobResult, JobState, Timings
from protocol.queue.job_list import JobFilter, JobList
from protocol.queue.job_queue import STATES, JobQueue, queue_name
from protocol.request.request import GenerationRequest, Priority
from protocol.settings import Settings
from tests.worker.consumer.expected_queue import ExpectedQueue
from tests.worker.consumer.harness import MODEL, request, settings
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
    "finish": lambda source, claim: source.finish(claim, JobResult(images=(), timings=Timings())),
    "fail": lambda source, claim: source.fail(claim, JobFailed("as expected")),
    "cancel": lambda source, claim: source.cancel(claim),
    "requeue": lambda source, claim: source.requeue(claim),
    "stalled": lambda source, claim: source.mark_stalled(claim),
}


@dataclass
class Job:
    """The expected state of one job."""

    request: GenerationRequest
    client: str
    late: bool = False  # its deadline is over
    state: JobState = JobState.QUEUED
    stalled_count: int = 0
    cancel: bool = False
    deleted: bool = False  # or to be deleted when it ends
    holder: Claim | None = None
    settled: tuple[Claim, JobStatus] | None = None


@dataclass
class Worker:
    """A worker that may die; its claims are kept, as by a worker that was only frozen."""

    source: RqJobSource
    claims: list[Claim] = field(default_factory=list)


class JobsMachine(RuleBasedStateMachine):
    """The real queue and job source, and `Job`s with an expected queue to compare them with."""

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
        self.deleted: set[str] = set()
        self.job_list = JobList(self.redis)
        self.expected = {model: ExpectedQueue(PATIENCE) for model in MODELS}
        self.silent: set[str] = set()  # members whose leases ran out
        terms = settings(
            self.redis_url, worker_max_crashes=MAX_CRASHES, worker_priority_patience=PATIENCE
        )
        return multiple(*(Worker(RqJobSource(self.redis, name, MODELS, terms)) for name in NAMES))

    # Several at a time: Hypothesis leaves whole rules out of many runs, and rare calls test little.
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
        waiting = self.expected[one.model]
        self._fail_expired(one.model)
        mine = [job_id for job_id in waiting.ids if self.jobs[job_id].client == client]
        try:
            job_id = self.queue.submit(one, client=client)
        except ClientQueueFull:
            assert client != ""
            assert len(mine) >= MOST_OF_A_CLIENT  # requeued jobs count too
            return None
        except QueueFull:
            assert len(waiting.ids) >= MOST_WAITING
            return None
        assert len(waiting.ids) < MOST_WAITING
        assert client == "" or len(mine) < MOST_OF_A_CLIENT
        assert self.queue.submit(one, job_id, client=client) == job_id  # as after a lost answer
        self.jobs[job_id] = Job(one, client)
        waiting.lanes[one.priority].join(job_id, client, one.work)
        return job_id

    @rule(job_id=ids)
    def deadline_passes(self, job_id: str) -> None:
        if job_id in self.jobs and self.jobs[job_id].state not in TERMINAL:
            self.jobs[job_id].late = True
            self.redis.hset(f"rq:job:{job_id}", "deadline_at", 0)
            if job_id in self._queue_of(job_id):
                self.redis.zadd(DEADLINES[self.jobs[job_id].request.model], {job_id: 0})

    @rule(worker=workers)
    def fail_expired(self, worker: Worker) -> None:
        waiting = [job_id for waiting in self.expected.values() for job_id in waiting.ids]
        late = sorted(job_id for job_id in waiting if self.jobs[job_id].late)
        assert sorted(worker.source.leases.fail_expired()) == late
        for model in MODELS:
            self._fail_expired(model)

    def _fail_expired(self, model: str) -> None:
        for job_id in self.expected[model].ids:
            if self.jobs[job_id].late:
                self._fail(job_id)

    def _queue_of(self, job_id: str) -> ExpectedQueue:
        return self.expected[self.jobs[job_id].request.model]

    def _fail(self, job_id: str) -> None:
        self.jobs[job_id].state = JobState.FAILED
        self._queue_of(job_id).leave(job_id)

    @rule(job_id=ids)
    def expire(self, job_id: str) -> None:
        """Let the time pass for which an ended job is kept."""
        if job_id in self.jobs and self.jobs[job_id].state in TERMINAL:
            del self.jobs[job_id]
            self.expired.add(job_id)
            self.redis.expire(f"rq:job:{job_id}", 0)
            for registry in REGISTRIES:
                self.redis.zadd(registry, {job_id: 0}, xx=True)

    @rule(job_id=ids)
    def view(self, job_id: str) -> None:
        if job_id in self.jobs:
            self._look(job_id)
        if self._is_known(job_id):
            assert self.queue.view(job_id).state is self.jobs[job_id].state

    @rule(job_id=ids, client=st.sampled_from([None, "carl", "dora"]))
    def delete(self, job_id: str, client: str | None) -> None:
        job = self.jobs.get(job_id)
        if job is None:
            return
        self._look(job_id)
        if client not in (None, job.client):
            with pytest.raises(UnknownJob):
                self.queue.delete(job_id, client)
            return
        for _ in range(2):  # once more, as after a lost answer
            self.queue.delete(job_id, client)
        if job.state is JobState.RUNNING:
            job.deleted = job.cancel = True
            return
        if job.state is JobState.QUEUED:
            self._queue_of(job_id).leave(job_id)
        self._remove(job_id)

    @rule(job_id=ids)
    def deleted_job_cannot_come_back(self, job_id: str) -> None:
        if job_id in self.deleted:
            with pytest.raises(JobDeleted):
                self.queue.submit(request(model=MODEL), job_id)
            assert [*self.text.scan_iter(f"*{job_id}*")] == [f"darkroom:deleted:{job_id}"]

    @rule(target=ids, job_id=ids)
    def retry(self, job_id: str) -> MultipleResults[str]:
        job = self.jobs.get(job_id)
        if job is None or job.deleted or job.state not in (JobState.FAILED, JobState.CANCELLED):
            return multiple()
        view, read = self.queue.request(job_id, job.client)
        assert (view.state, read) == (job.state, job.request)
        return multiple(*filter(None, [self._submit(read, job.client)]))

    @rule(
        client=st.sampled_from([None, "", "carl", "dora", "emil"]),
        states=st.none() | st.sets(st.sampled_from(JobState)),
        model=st.none() | st.sampled_from(MODELS),
        limit=st.integers(1, 4),
    )
    def list_jobs(
        self, client: str | None, states: set[JobState] | None, model: str | None, limit: int
    ) -> None:
        """Compare all pages with the jobs in the order of their submission."""
        for job_id, job in [*self.jobs.items()]:
            if client in (None, job.client) and not job.deleted:  # which the list has not
                self._look(job_id)
        expected = [
            (job_id, job.state, job.request.model)
            for job_id, job in reversed(self.jobs.items())
            if client in (None, job.client)
            and (states is None or job.state in states)
            and model in (None, job.request.model)
            and not job.deleted
        ]
        wanted = JobFilter(states=states, model=model)
        pages = [self.job_list.page(client, wanted, limit)]
        while (end := pages[-1].end) is not None:
            pages.append(self.job_list.page(client, wanted, limit, end))
        assert all(len(page.jobs) <= limit for page in pages)
        found = [(job.view.id, job.view.state, job.model) for page in pages for job in page.jobs]
        assert found == expected

    def _remove(self, job_id: str) -> None:
        del self.jobs[job_id]
        self.deleted.add(job_id)

    def _look(self, job_id: str) -> None:
        """Fail a job whose deadline has passed, as each look at it does, also without a worker."""
        job = self.jobs[job_id]
        if job.late and job.state is JobState.QUEUED:
            self._fail(job_id)
        elif job.late and job.holder is not None:
            self.silent.discard(job.holder.member)
            job.state, job.holder = JobState.FAILED, None
            if job.deleted:
                self._remove(job_id)

    @rule(job_id=ids, client=st.sampled_from(["carl", "dora"]))
    def other_clients_cannot_view(self, job_id: str, client: str) -> None:
        if job_id in self.jobs:
            self._look(job_id)
        if not self._is_known(job_id) or self.jobs[job_id].client != client:
            for call in (self.queue.view, self.queue.cancel):
                with pytest.raises(UnknownJob):
                    call(job_id, client)
        else:
            assert self.queue.view(job_id, client).state is self.jobs[job_id].state

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        if job_id in self.jobs:
            self._look(job_id)
        if not self._is_known(job_id):
            with pytest.raises(UnknownJob):
                self.queue.cancel(job_id)
            return
        job = self.jobs[job_id]
        view = self.queue.cancel(job_id)
        if job.state is JobState.QUEUED:
            job.state = JobState.CANCELLED
            self._queue_of(job_id).leave(job_id)
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
        """Claim the head of the first model that has one."""
        idle = not worker.claims
        claim = worker.source.claim(idle, models)
        head = next(filter(None, map(self._head, models)), None)
        if head is None or (self.jobs[head].stalled_count >= ALONE_FROM and not idle):
            assert claim is None
            return None
        job = self.jobs[head]
        assert claim is not None
        assert claim.job_id == head
        assert claim.stalled_count == job.stalled_count
        assert worker.source.read(claim) == job.request
        self._queue_of(head).take()
        job.state, job.holder = JobState.RUNNING, claim
        worker.claims.append(claim)
        return claim

    def _head(self, model: str) -> str | None:
        """Return the next job of a model; expired jobs before it fail."""
        while (head := self.expected[model].next()) is not None and self.jobs[head].late:
            self._fail(head)
        return head

    @rule(held=held, how=st.sampled_from(sorted(ENDINGS)))
    def end(self, held: tuple[Worker, Claim], how: str) -> None:
        worker, claim = held
        job = self.jobs.get(claim.job_id)
        answer = ENDINGS[how](worker.source, claim)
        if job is not None and job.holder is claim:
            expected = {
                "finish": JobStatus.FINISHED,
                "fail": JobStatus.FAILED,
                "cancel": JobStatus.CANCELED,
                "requeue": self._after_requeue(job),
                "stalled": self._after_stall(job) if how == "stalled" else None,
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
            worker.source.leases.renew([claim], pipe)
            [lost] = pipe.execute()
        job = self.jobs.get(claim.job_id)
        ours = job is not None and job.holder is claim
        assert lost == ([] if ours else [claim.member.encode()])
        self.silent.discard(claim.member)

    @rule(worker=workers)
    def die(self, worker: Worker) -> None:
        """Let the leases of a worker expire at once."""
        for claim in worker.claims:
            job = self.jobs.get(claim.job_id)
            if job is not None and job.holder is claim:
                self.redis.zadd(LEASES[job.request.model], {claim.member: 0})
                self.silent.add(claim.member)
        worker.claims.clear()

    @rule(worker=workers)
    def requeue_stalled(self, worker: Worker) -> None:
        expected = []
        silent = sorted(self.silent, key=lambda member: (self._place_of(member), member))
        for member in silent:
            job = self.jobs[member.partition(":")[0]]
            assert job.holder is not None
            status = self._after_stall(job)
            expected.append((job.holder.job_id, status))
            self._left(job.holder, status)
        assert worker.source.leases.requeue_stalled() == expected
        for registry in REGISTRIES:
            assert self.expired.isdisjoint(self.text.zrange(registry, 0, -1))

    def _place_of(self, member: str) -> int:
        """Return the place of the model: pools are looked through in their order."""
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
        expiring = [job_id for job_id, ttl in zip(self.jobs, ttls, strict=True) if ttl > 0]
        lanes = [
            waiting.lanes[priority] for waiting in self.expected.values() for priority in Priority
        ]
        for waiting, listed in zip(lanes, lists, strict=True):
            assert sorted(listed) == sorted(entry[2] for entry in waiting.entries)
        for model, leased in zip(MODELS, leases, strict=True):
            held = [job for job in self.jobs.values() if job.request.model == model]
            assert sorted(leased) == sorted(job.holder.member for job in held if job.holder)
        assert sorted(registered) == sorted(ended) == sorted(expiring)
        for job_id, job in self.jobs.items():
            status = self.text.hget(f"rq:job:{job_id}", "status")
            assert STATES[status] is job.state  # type: ignore[index]  # RQ's states are strings
            if not job.late and not job.deleted:  # a look would change the job
                assert self.queue.view(job_id).state is job.state
            assert (job_id in self._queue_of(job_id)) == (job.state is JobState.QUEUED)
            assert (job.holder is not None) == (job.state is JobState.RUNNING)

    @invariant()
    def rq_sees_what_each_worker_holds(self) -> None:
        if not hasattr(self, "jobs"):
            return
        shown = self.text.sunion([f"rq:worker:{name}:executions" for name in NAMES])
        held = {job.holder.member for job in self.jobs.values() if job.holder}
        assert shown == held

    def _is_known(self, job_id: str) -> bool:
        """Return True if clients can see a job."""
        return job_id in self.jobs and not self.jobs[job_id].deleted

    def _after_requeue(self, job: Job) -> JobStatus:
        return JobStatus.CANCELED if job.cancel else JobStatus.QUEUED

    def _after_stall(self, job: Job) -> JobStatus:
        job.stalled_count += 1
        return self._after_requeue(job) if job.stalled_count < MAX_CRASHES else JobStatus.FAILED

    def _left(self, claim: Claim, status: JobStatus) -> None:
        job = self.jobs[claim.job_id]
        job.holder, job.state = None, JOB_STATES[status]
        if status is JobStatus.QUEUED:
            lane = self._queue_of(claim.job_id).lanes[job.request.priority]
            lane.join_in_front(claim.job_id)
        elif job.deleted:
            self._remove(claim.job_id)
        self.silent.discard(claim.member)


@pytest.mark.parametrize("examples", [40, pytest.param(400, marks=pytest.mark.long)])
def test_no_order_of_events_loses_or_doubles_a_job(redis_url: str, examples: int) -> None:
    class Machine(JobsMachine):
        pass

    Machine.redis_url = redis_url
    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(max_examples=examples, stateful_step_count=50, deadline=None),
    )
