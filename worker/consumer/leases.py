"""Leases on jobs, in Redis: claim, renew, end, and requeue those of dead workers.

    queued ──claim──▶ leased ──settle──▶ finished | failed | canceled
       ▲                │
       └────────────────┘ settle, requeue_stalled

A worker that runs a job holds a lease on it, renewed every few seconds. Every move between these
states is one Lua script, so no crash leaves a job in between, and the lease is the fence: a worker
that has lost it can no longer end the job. Deadlines use the server's clock, so the workers' clocks
need not agree.

A job whose worker dies is stalled, and goes back to the front of the queue. One death is no
evidence against a job: most workers die of something else. A job that stalled twice is given only
to a worker that runs nothing else, and after `max_stalled` deaths it fails. So a job that kills
workers harms the jobs in the same batch twice, and never makes them fail.

Of the waiting jobs of a pool, claim takes the one of highest priority, and among those the client
that has been served least (`protocol/connection/lua/lane.lua`, `claim.lua`); a job whose deadline
has passed fails. A worker of several models looks through their pools in the order given.

This module uses the layout in which RQ keeps jobs, but not RQ itself.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from redis import Redis
from redis.client import Pipeline

from protocol.connection.keyspace import RQ, key
from protocol.connection.scripts import PipelinedScript, argv, script_text
from protocol.queue.job_queue import CANCEL_FIELD
from protocol.telemetry.context import NO_CONTEXT, JobContext

LOADING_TTL_S = 60  # for how long the loading of a model is reported
ALONE_FROM = 2  # the stalled count from which a job runs alone

ResultEntry = Sequence[str]  # RQ's entry for a result: names and values, flat


@dataclass(frozen=True)
class LeaseTerms:
    """The worker's name, and the durations and bounds of its scripts.

    `patience`: how often waiting jobs of a lower priority are passed over before one of them is
    claimed. A job that has stalled `max_stalled` times fails with `stalled_error`, an ErrorRecord
    as JSON, and `stalled_record`, RQ's entry for a failed result.
    """

    worker: str
    lease_s: float
    max_stalled: int
    patience: int
    result_ttl_s: int
    failure_ttl_s: int
    stalled_error: str
    stalled_record: ResultEntry
    alone_from: int = ALONE_FROM


class JobStatus(StrEnum):
    """RQ's words for the statuses in which a lease ends."""

    QUEUED = "queued"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Claim:
    """A job on which this worker holds a lease. `data` is RQ's, unchecked: it is not trusted.

    `queued_s`: the seconds from submission to claim, by Redis' clock; None if they are not known.
    `waiting`: the jobs left in the pools that were looked through.
    """

    job_id: str
    execution_id: str
    pool: str
    data: bytes
    queued_s: float | None
    stalled_count: int
    context: JobContext = NO_CONTEXT
    time_left_s: float | None = None  # at the claim, until the job's deadline
    waiting: int = 1

    @property
    def runs_alone(self) -> bool:
        """True for a job that was running when several workers died."""
        return self.stalled_count >= ALONE_FROM

    @property
    def member(self) -> str:
        return f"{self.job_id}:{self.execution_id}"

    @property
    def names(self) -> dict[str, str]:
        """The fields that name the job in log lines."""
        request = self.context.request_id
        return {"job": self.job_id, "request": request} if request else {"job": self.job_id}


class Leases:
    """The leases of one worker on the jobs of its pools. Raises what redis-py raises.

    A call that fails may have had its effect; repeating it is always safe.
    """

    def __init__(self, redis: Redis, pools: Sequence[str], terms: LeaseTerms) -> None:
        """`pools`: the names that the RQ queues of its jobs begin with."""
        self._redis = redis
        self._pools = list(pools)
        self._terms = asdict(terms)
        self._claim = PipelinedScript(redis, "claim", "lease")
        self._settle = PipelinedScript(redis, "settle", "lease")
        self._renew = redis.register_script(script_text("renew", "lease"))
        self._requeue_stalled = PipelinedScript(redis, "requeue_stalled", "lease")
        self._fail_expired = PipelinedScript(redis, "fail_expired")
        self._fail_waiting = PipelinedScript(redis, "fail_waiting", "lease")
        self._waiting_counts = PipelinedScript(redis, "waiting_counts")
        self._next_execution = uuid.uuid4().hex

    def add_pools(self, pools: Sequence[str]) -> None:
        """Also requeue and fail jobs of these pools from now on."""
        self._pools = [*self._pools, *pools]

    def claim(self, idle: bool, pools: Sequence[str]) -> Claim | None:
        """Claim the next job of the first of `pools` that has one, if any has.

        Only an `idle` worker gets a job that must run alone.
        """
        execution = self._next_execution
        found = self._claim(terms=self._terms, execution=execution, idle=idle, pools=list(pools))
        # Only now: until an answer arrives, the next call must repeat this one.
        self._next_execution = uuid.uuid4().hex
        if found is None:
            return None
        job_id, data, queued_s, stalled, meta, time_left, waiting, pool = found
        return Claim(
            job_id.decode(),
            execution,
            pool.decode(),
            data,
            float(queued_s) if queued_s else None,
            int(stalled) if stalled.isdigit() else ALONE_FROM,
            JobContext.read(meta),
            float(time_left) if time_left else None,
            waiting,
        )

    def renew(self, claims: Iterable[Claim], pipe: Pipeline) -> None:
        """Renew every lease that this worker still holds.

        For each pool with claims the pipeline returns the members whose leases are lost.
        """
        members: dict[str, list[str]] = {}
        for claim in claims:
            members.setdefault(claim.pool, []).append(claim.member)
        for pool, ours in members.items():
            arguments = {"terms": self._terms, "pool": pool, "members": ours}
            self._renew(keys=[key()], args=argv(arguments), client=pipe)

    def cancel_requested(self, job_ids: list[str]) -> set[str]:
        """Return those of the jobs that a client asked to cancel."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hexists(f"{RQ}:job:{job_id}", CANCEL_FIELD)
            return {job_id for job_id, mark in zip(job_ids, pipe.execute(), strict=True) if mark}

    def finish(
        self, claim: Claim, record: ResultEntry, result: str | None = None
    ) -> JobStatus | None:
        """End a job with success; `record` is RQ's entry for its result.

        `result` is a JobResult as JSON, which the job's listeners receive.

        This and the methods below return the job's new status, or None if the lease was lost.
        """
        return self._end(claim, becomes="finished", record=record, result=result)

    def fail(self, claim: Claim, error: str, record: ResultEntry) -> JobStatus | None:
        """End a job with an error; `error` is an ErrorRecord as JSON."""
        return self._end(claim, becomes="failed", error=error, record=record)

    def cancel(self, claim: Claim) -> JobStatus | None:
        """End a job because a client asked to cancel it."""
        return self._end(claim, becomes="canceled")

    def requeue(self, claim: Claim) -> JobStatus | None:
        """Return a job to the queue, for another worker to start again."""
        return self._end(claim, becomes="queued")

    def mark_stalled(self, claim: Claim) -> JobStatus | None:
        """Return a job that may have broken this worker to the queue, with its count raised."""
        return self._end(claim, becomes="stalled")

    def requeue_stalled(self) -> list[tuple[str, JobStatus]]:
        """Requeue the jobs whose leases have expired: each job's id and its new status."""
        found = self._requeue_stalled(terms=self._terms, pools=self._pools)
        return [
            (job_id.decode(), JobStatus(status.decode()))
            for job_id, status in zip(found[::2], found[1::2], strict=True)
        ]

    def fail_expired(self) -> list[str]:
        """Fail the waiting jobs whose deadlines have passed; return their ids."""
        found = self._fail_expired(pools=self._pools)
        return [job_id.decode() for job_id in found]

    def waiting_counts(self, loading: Mapping[str, float | None]) -> dict[str, int]:
        """Return the number of waiting jobs of each pool.

        A number in `loading` is the share (0 to 1) of the pool's model loaded so far; the waiting
        jobs report it.
        """
        percent = {pool: round(100 * share) for pool, share in loading.items() if share is not None}
        counts = self._waiting_counts(ttl_s=LOADING_TTL_S, pools=list(loading), percent=percent)
        return dict(zip(loading, counts, strict=True))

    def fail_waiting(self, pool: str, error: str, record: ResultEntry) -> list[str]:
        """Fail the waiting jobs of a pool whose model cannot be loaded; return their ids.

        `error` is an ErrorRecord as JSON, `record` RQ's entry for a failed result.
        """
        failed = []
        while found := self._fail_waiting(terms=self._terms, pool=pool, error=error, record=record):
            failed += [job_id.decode() for job_id in found]
        return failed

    def _end(self, claim: Claim, becomes: str, **outcome: ResultEntry | None) -> JobStatus | None:
        status = self._settle(
            terms=self._terms,
            pool=claim.pool,
            id=claim.job_id,
            execution=claim.execution_id,
            becomes=becomes,
            **outcome,
        )
        return None if status is None else JobStatus(status.decode())
