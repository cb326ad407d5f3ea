"""Who holds which job, in Redis: claim, renew, give up, and take back from the dead.

    queued ──claim──▶ leased ──settle──▶ finished | failed | canceled
       ▲                │
       └──settle, reap──┘

A worker that runs a job holds a lease on it, renewed every few seconds. Every move between these
states is one Lua script, so no crash leaves a job in between, and the lease is the fence: whoever
has lost it can no longer end the job. Deadlines are told by the server's clock, so the workers' own
need not agree.

A job whose worker dies goes back to the front of the queue. One death says nothing of a job: most
workers die of something else. A job that saw two is a suspect: it is given only to a worker that
runs nothing else, and after `max_crashes` deaths it fails. So a poisonous job takes its neighbours
along twice, and none of them to the end.

Of the waiting jobs of a pool it takes the one of highest priority, and among those whose client has
been served least (`protocol/connection/lua/lane.lua`, `lua/claim.lua`); one whose deadline is
over is dropped.
A worker of several models looks through their pools in the order that it is told.

Knows the layout RQ keeps jobs in, but not RQ itself.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from redis import Redis
from redis.client import Pipeline

from protocol.connection.keyspace import RQ, key
from protocol.connection.pipelined_script import Arguments, PipelinedScript
from protocol.connection.scripts import script
from protocol.queue.job_queue import CANCEL_FIELD
from protocol.queue.submission import now_as_rq_writes_it
from protocol.telemetry.context import NO_CONTEXT, JobContext

LOADING_NEWS_S = 60  # for how long it is told that a model is being loaded
ALONE_FROM = 2  # deaths of workers, after which a job is drawn without company


@dataclass(frozen=True)
class LeaseTerms:
    """What a worker's scripts need to know: how long things last, and how a job ends that has taken
    too many workers along.

    `patience`: how often waiting jobs of a lower priority are passed over before one of them has a
    turn. `poison_error` is an ErrorRecord as JSON, `poison_record` RQ's entry for a failed result.
    """

    lease_s: float
    max_crashes: int
    patience: int
    result_ttl_s: int
    failure_ttl_s: int
    poison_error: str
    poison_record: Mapping[str, str]
    alone_from: int = ALONE_FROM


class JobStatus(StrEnum):
    """RQ's words for what a lease ends in."""

    QUEUED = "queued"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Claim:
    """A job this worker holds a lease on. `data` is RQ's, as found: not to be trusted.

    `waiting`: the jobs that were left in the pools that were looked through.
    """

    job_id: str
    execution_id: str
    pool: str
    data: bytes
    enqueued_at: str
    crashes: int
    context: JobContext = NO_CONTEXT
    time_left_s: float | None = None  # as of the claim, until its deadline
    waiting: int = 1

    @property
    def member(self) -> str:
        return f"{self.job_id}:{self.execution_id}"

    @property
    def names(self) -> dict[str, str]:
        """Whose log lines these are."""
        request = self.context.request_id
        return {"job": self.job_id, "request": request} if request else {"job": self.job_id}


class Leases:
    """One worker's dealings with the jobs of its pools. Raises what redis-py raises.

    A call that fails may have had its effect; repeating it is always right.
    """

    def __init__(self, redis: Redis, worker: str, pools: Sequence[str], terms: LeaseTerms) -> None:
        """`pools`: the names that the RQ queues of its jobs begin with."""
        self._redis = redis
        self._pools = pools
        told = asdict(terms) | {"worker": worker, "poison_record": _flat(terms.poison_record)}
        self._terms = json.dumps(told)
        self._claim, self._settle, self._reap, self._late, self._awaited, self._give_up = (
            PipelinedScript(redis, _script(name))
            for name in ("claim", "settle", "reap", "late", "awaited", "give_up")
        )
        self._renew = redis.register_script(_script("renew"))
        self._next_execution = uuid.uuid4().hex

    def claim(self, idle: bool, pools: Sequence[str]) -> Claim | None:
        """Take the next job of the first of `pools` that has one, if any has. Only an `idle` worker
        is given a suspect."""
        execution = self._next_execution
        asked: Arguments = [self._terms, execution, int(idle), now_as_rq_writes_it(), *pools]
        [found] = self._claim([asked])
        # Only now: until an answer arrives, the next try must repeat this one.
        self._next_execution = uuid.uuid4().hex
        if found is None:
            return None
        job_id, data, enqueued_at, crashes, meta, time_left, waiting, pool = found
        return Claim(
            job_id.decode(),
            execution,
            pool.decode(),
            data,
            enqueued_at.decode(errors="replace"),
            int(crashes) if crashes.isdigit() else ALONE_FROM,
            JobContext.read(meta),
            float(time_left) if time_left else None,
            waiting,
        )

    def renew(self, claims: Iterable[Claim], pipe: Pipeline) -> None:
        """Prolong every lease that is still ours; for each pool that has one the pipeline answers
        the members lost."""
        members: dict[str, list[str]] = {}
        for claim in claims:
            members.setdefault(claim.pool, []).append(claim.member)
        for pool, ours in members.items():
            self._renew(keys=[key()], args=[self._terms, pool, *ours], client=pipe)

    def marked(self, job_ids: list[str]) -> set[str]:
        """Those of the jobs that somebody asked to stop."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hexists(f"{RQ}:job:{job_id}", CANCEL_FIELD)
            return {job_id for job_id, mark in zip(job_ids, pipe.execute(), strict=True) if mark}

    def finish(
        self, claim: Claim, record: Mapping[str, str], result: str | None = None
    ) -> JobStatus | None:
        """End a job well; `record` is RQ's entry for its result, which those who wait are told.

        `result` is a JobResult as JSON.

        This and its siblings below answer what became of the job, or None if the lease was lost
        and the job is somebody else's by now.
        """
        told = {} if result is None else {"result": result}
        return self._end(claim, becomes="finished", record=_flat(record), **told)

    def fail(self, claim: Claim, error: str, record: Mapping[str, str]) -> JobStatus | None:
        """End a job badly; `error` is an ErrorRecord as JSON."""
        return self._end(claim, becomes="failed", error=error, record=_flat(record))

    def cancel(self, claim: Claim) -> JobStatus | None:
        """End a job because somebody asked to."""
        return self._end(claim, becomes="canceled")

    def hand_back(self, claim: Claim) -> JobStatus | None:
        """Return a job unharmed, for another worker to begin anew."""
        return self._end(claim, becomes="queued")

    def suspect(self, claim: Claim) -> JobStatus | None:
        """Return a job that may have brought this worker down."""
        return self._end(claim, becomes="suspect")

    def reap(self) -> list[tuple[str, JobStatus]]:
        """Take back the jobs whose leases ran out: each job's id and what became of it."""
        [taken] = self._reap([self._of_every_pool()])
        return [
            (job_id.decode(), JobStatus(status.decode()))
            for job_id, status in zip(taken[::2], taken[1::2], strict=True)
        ]

    def drop_late(self) -> list[str]:
        """Fail the waiting jobs whose deadlines are over; answers their ids."""
        [dropped] = self._late([self._of_every_pool()])
        return [job_id.decode() for job_id in dropped]

    def waiting_counts(self, loading: Mapping[str, float | None]) -> dict[str, int]:
        """How many jobs wait in these pools; and tell them how far their model is loaded (0 to 1),
        where it is being loaded."""
        told: list[str | float] = [self._terms, "", LOADING_NEWS_S]
        for pool, share in loading.items():
            told += [pool, "" if share is None else round(100 * share)]
        [waiting] = self._awaited([told])
        return dict(zip(loading, waiting, strict=True))

    def fail_waiting(self, pool: str, error: str, record: Mapping[str, str]) -> list[str]:
        """Fail what waits in a pool, for nobody can draw it; answers the ids. `error` is an
        ErrorRecord as JSON, `record` RQ's entry for a failed result."""
        told = [self._terms, pool, now_as_rq_writes_it(), error, json.dumps(_flat(record))]
        failed = []
        while True:
            [some] = self._give_up([told])
            failed += [job_id.decode() for job_id in some]
            if not some:
                return failed

    def _of_every_pool(self) -> list[str]:
        """The arguments of a script that looks through all pools: one, for workers are many."""
        return [self._terms, "", now_as_rq_writes_it(), *self._pools]

    def _end(self, claim: Claim, **ending: str | list[str]) -> JobStatus | None:
        names = claim.pool, claim.job_id, claim.execution_id
        [status] = self._settle([[self._terms, *names, now_as_rq_writes_it(), json.dumps(ending)]])
        return None if status is None else JobStatus(status.decode())


def _script(name: str) -> str:
    return script("lease", name)


def _flat(record: Mapping[str, str]) -> list[str]:
    return [part for field in record.items() for part in field]
