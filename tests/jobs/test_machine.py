"""Any order of submits, claims, endings, cancels, deaths and reapings, against a model."""

from dataclasses import dataclass, field

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

from protocol.errors import JobFailed
from protocol.job import TERMINAL, JobResult, JobState, Timings
from protocol.queue import JobQueue
from protocol.settings import Settings
from tests.jobs.harness import MODEL, request, settings
from worker.leases import ALONE_FROM, Claim, JobStatus
from worker.rq_worker import RqLedger

MAX_CRASHES = 3
LEASES = f"darkroom:leases:darkroom-{MODEL}"
QUEUE = f"rq:queue:darkroom-{MODEL}"
REGISTRIES = [f"rq:{name}:darkroom-{MODEL}" for name in ("finished", "failed", "canceled")]

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
    "hand back": lambda ledger, claim: ledger.hand_back(claim),
    "suspect": lambda ledger, claim: ledger.suspect(claim),
}


@dataclass
class Job:
    """What ought to be true of one job."""

    state: JobState = JobState.QUEUED
    crashes: int = 0
    cancel: bool = False
    holder: Claim | None = None
    settled: tuple[Claim, JobStatus] | None = None


@dataclass
class Worker:
    """One that may die; its claims stay known, as they do to a worker that was only frozen."""

    ledger: RqLedger
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
        self.queue = JobQueue(self.redis, Settings(redis_url=self.redis_url))
        self.jobs: dict[str, Job] = {}
        self.waiting: list[str] = []
        self.silent: set[str] = set()  # members whose leases ran out
        terms = settings(self.redis_url, worker_max_crashes=MAX_CRASHES)
        return multiple(
            *(Worker(RqLedger(self.redis, name, MODEL, terms)) for name in ("ann", "bob"))
        )

    # Several at a time: Hypothesis leaves whole rules out of many runs, and rare calls do little.
    @rule(target=ids, jobs=st.integers(1, 3))
    def submit(self, jobs: int) -> MultipleResults[str]:
        return multiple(*(self._submit() for _ in range(jobs)))

    def _submit(self) -> str:
        job_id = self.queue.submit(request())
        assert self.queue.submit(request(), job_id) == job_id  # as after a lost answer
        self.jobs[job_id] = Job()
        self.waiting.append(job_id)
        return job_id

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        job = self.jobs[job_id]
        view = self.queue.cancel(job_id)
        if job.state is JobState.QUEUED:
            job.state = JobState.CANCELLED
            self.waiting.remove(job_id)
        elif job.state is JobState.RUNNING:
            job.cancel = True
        assert view.state is job.state

    @rule(target=held, worker=workers, times=st.integers(1, 3))
    def claim(self, worker: Worker, times: int) -> MultipleResults[tuple[Worker, Claim]]:
        claims = [self._claim(worker) for _ in range(times)]
        return multiple(*((worker, claim) for claim in claims if claim is not None))

    def _claim(self, worker: Worker) -> Claim | None:
        idle = not worker.claims
        claim = worker.ledger.claim(idle)
        head = self.jobs[self.waiting[0]] if self.waiting else None
        if head is None or (head.crashes >= ALONE_FROM and not idle):
            assert claim is None
            return None
        assert claim is not None
        assert claim.job_id == self.waiting.pop(0)
        assert claim.crashes == head.crashes
        assert worker.ledger.read(claim) == request()
        head.state, head.holder = JobState.RUNNING, claim
        worker.claims.append(claim)
        return claim

    @rule(held=held, how=st.sampled_from(sorted(ENDINGS)))
    def end(self, held: tuple[Worker, Claim], how: str) -> None:
        worker, claim = held
        job = self.jobs[claim.job_id]
        answer = ENDINGS[how](worker.ledger, claim)
        if job.holder is claim:
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
        elif job.settled is not None and job.settled[0] is claim:
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
        ours = self.jobs[claim.job_id].holder is claim
        assert lost == ([] if ours else [claim.member.encode()])
        self.silent.discard(claim.member)

    @rule(worker=workers)
    def die(self, worker: Worker) -> None:
        """Its leases run out, with no need to wait for it."""
        for claim in worker.claims:
            if self.jobs[claim.job_id].holder is claim:
                self.redis.zadd(LEASES, {claim.member: 0})
                self.silent.add(claim.member)
        worker.claims.clear()

    @rule(worker=workers)
    def reap(self, worker: Worker) -> None:
        expected = []
        for member in sorted(self.silent):
            job = self.jobs[member.partition(":")[0]]
            assert job.holder is not None
            status = self._as_suspect(job)
            expected.append((job.holder.job_id, status))
            self._left(job.holder, status)
        assert worker.ledger.leases.reap() == expected

    def teardown(self) -> None:
        self.redis.close()
        self.text.close()

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        if not hasattr(self, "jobs"):
            return
        with self.text.pipeline() as pipe:
            pipe.lrange(QUEUE, 0, -1)
            for key in (LEASES, *REGISTRIES):
                pipe.zrange(key, 0, -1)
            for job_id in self.jobs:
                pipe.ttl(f"rq:job:{job_id}")
            queued, leased, finished, failed, canceled, *ttls = pipe.execute()
        ended = [job_id for job_id, job in self.jobs.items() if job.state in TERMINAL]
        swept = [job_id for job_id, ttl in zip(self.jobs, ttls, strict=True) if ttl > 0]
        assert queued == self.waiting
        assert sorted(leased) == sorted(
            job.holder.member for job in self.jobs.values() if job.holder
        )
        assert sorted(finished + failed + canceled) == sorted(ended) == sorted(swept)
        for job_id, job in self.jobs.items():
            assert self.queue.view(job_id).state is job.state
            assert (job_id in self.waiting) == (job.state is JobState.QUEUED)
            assert (job.holder is not None) == (job.state is JobState.RUNNING)

    def _again(self, job: Job) -> JobStatus:
        return JobStatus.CANCELED if job.cancel else JobStatus.QUEUED

    def _as_suspect(self, job: Job) -> JobStatus:
        job.crashes += 1
        return self._again(job) if job.crashes < MAX_CRASHES else JobStatus.FAILED

    def _left(self, claim: Claim, status: JobStatus) -> None:
        job = self.jobs[claim.job_id]
        job.holder, job.state = None, JOB_STATES[status]
        if status is JobStatus.QUEUED:
            self.waiting.insert(0, claim.job_id)
        self.silent.discard(claim.member)


def test_no_order_of_events_loses_or_doubles_a_job(redis_url: str) -> None:
    class Machine(JobsMachine):
        pass

    Machine.redis_url = redis_url
    run_state_machine_as_test(
        Machine,
        settings=hypothesis_settings(max_examples=50, stateful_step_count=40, deadline=None),
    )
