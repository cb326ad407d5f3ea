"""Who holds which job, in Redis: claim, renew, give up, and take back from the dead.

    queued ──claim──▶ leased ──settle──▶ finished | failed | canceled
       ▲                │
       └──settle, reap──┘

A worker that runs a job holds a lease on it, renewed every few seconds. Every move between these
states is one Lua script, so no crash leaves a job in between, and the lease is the fence: whoever
has lost it can no longer end the job. Deadlines are told by the server's clock, so the workers' own
need not agree.

A job whose worker dies goes back to the front of the queue and is a suspect from then on: it is
given only to a worker that runs nothing else, and after `max_crashes` deaths it fails. So a
poisonous job takes its neighbours along once, and none of them to the end.

Knows the layout RQ keeps jobs in, but not RQ itself. The scripts touch keys that they find on the
way, so Redis Cluster is not supported, as by RQ.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from redis import Redis
from redis.client import Pipeline

from protocol.context import NO_CONTEXT, JobContext
from protocol.queue import CANCEL_FIELD, ERROR_FIELD

# Every script gets the names of things as JSON in its first argument.
PRELUDE = f"""
local k = cjson.decode(ARGV[1])

local function server_time()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end

local function forget(id, execution)
  local member = id .. ':' .. execution
  redis.call('ZREM', k.started, member)
  redis.call('DEL', k.execution .. member)
  redis.call('ZREM', k.executions .. id, execution)
end

-- The end of a job, with what RQ's tools want to read of it, all swept away after `keep` seconds.
local function close(id, status, registry, keep, ended_at, error, record)
  local job = k.job .. id
  redis.call('HSET', job, 'status', status, 'ended_at', ended_at)
  if error then redis.call('HSET', job, '{ERROR_FIELD}', error) end
  if record then
    redis.call('XADD', k.results .. id, 'MAXLEN', 10, '*', unpack(record))
    redis.call('EXPIRE', k.results .. id, keep)
  end
  redis.call('ZADD', registry, server_time() + keep, id)
  redis.call('EXPIRE', job, keep)
  return status
end

-- To the front of the queue, for it has waited once; unless it was asked to stop meanwhile.
local function again(id, ended_at)
  local job = k.job .. id
  if redis.call('HEXISTS', job, '{CANCEL_FIELD}') == 1 then
    return close(id, 'canceled', k.canceled, k.failure_ttl_s, ended_at)
  end
  redis.call('HSET', job, 'status', 'queued')
  redis.call('LPUSH', k.queue, id)
  return 'queued'
end

-- Once more under suspicion, or never again.
local function again_as_suspect(id, ended_at)
  local crashes = redis.pcall('HINCRBY', k.job .. id, 'crashes', 1)
  if type(crashes) == 'number' and crashes < k.max_crashes then
    return again(id, ended_at)
  end
  return close(id, 'failed', k.failed, k.failure_ttl_s, ended_at, k.poison_error, k.poison_record)
end
"""

# ARGV: names, execution id, worker, "1" if it runs nothing, now in RQ's format.
# An execution id that was used before repeats the answer that got lost.
CLAIM = (
    PRELUDE
    + """
local execution, worker, idle, now_text = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local last = k.last_claim .. worker

local function told(id)
  local found = redis.call('HMGET', k.job .. id, 'data', 'enqueued_at', 'crashes', 'meta')
  return {id, found[1] or '', found[2] or '', found[3] or '0', found[4] or ''}
end

local before = redis.call('GET', last)
if before and string.sub(before, 1, #execution + 1) == execution .. ':' then
  local id = string.sub(before, #execution + 2)
  if redis.call('ZSCORE', k.leases, id .. ':' .. execution) then return told(id) end
end

while true do
  local id = redis.call('LINDEX', k.queue, 0)
  if not id then return false end
  local job = k.job .. id
  -- Cancelled or expired while it waited, or nothing that we ever wrote: drop the entry.
  if not string.match(id, '^[%w_-]+$') or redis.pcall('HGET', job, 'status') ~= 'queued' then
    redis.call('LPOP', k.queue)
  -- A suspect waits for a worker with nothing to lose; and what is behind waits with it, or a
  -- steady stream of others would keep every worker busy and the suspect waiting for ever.
  elseif not idle and redis.call('HEXISTS', job, 'crashes') == 1 then
    return false
  else
    local now, member = server_time(), id .. ':' .. execution
    local stays = math.ceil(6 * k.lease_s)
    redis.call('LPOP', k.queue)
    redis.call('ZADD', k.leases, now + k.lease_s, member)
    redis.call('SET', last, execution .. ':' .. id, 'EX', stays)
    redis.call('HSET', job, 'status', 'started', 'started_at', now_text, 'worker_name', worker,
               'last_heartbeat', now_text)
    redis.call('PERSIST', job)
    -- For RQ's tools. Never due, so that none of them takes the job back: that is our reaper's.
    redis.call('ZADD', k.started, '+inf', member)
    redis.call('HSET', k.execution .. member, 'id', execution, 'job_id', id, 'worker_name', worker,
               'created_at', now, 'last_heartbeat', now)
    redis.call('EXPIRE', k.execution .. member, stays)
    redis.call('ZADD', k.executions .. id, now + stays, execution)
    redis.call('EXPIRE', k.executions .. id, stays)
    redis.call('SADD', k.worker_executions, member)
    redis.call('EXPIRE', k.worker_executions, stays)
    return told(id)
  end
end
"""
)

# ARGV: names, members. A lease that has run out but was not taken back yet is renewed.
# Answers those that are gone.
RENEW = (
    PRELUDE
    + """
local now, lost = server_time(), {}
local stays = math.ceil(6 * k.lease_s)
for i = 2, #ARGV do
  local member = ARGV[i]
  if redis.call('ZSCORE', k.leases, member) then
    redis.call('ZADD', k.leases, now + k.lease_s, member)
    if redis.call('EXPIRE', k.execution .. member, stays) == 1 then
      redis.call('HSET', k.execution .. member, 'last_heartbeat', now)
    end
  else
    lost[#lost + 1] = member
  end
end
return lost
"""
)

# ARGV: names, job id, execution id, now in RQ's format, what becomes of the job as JSON.
# Answers the job's new status, or nothing if the lease is no longer held.
SETTLE = (
    PRELUDE
    + """
local id, execution, ended_at, ending = ARGV[2], ARGV[3], ARGV[4], cjson.decode(ARGV[5])
local job, member = k.job .. id, ARGV[2] .. ':' .. ARGV[3]

if redis.call('ZREM', k.leases, member) == 0 then
  -- Ended by us already, and only the answer got lost? Then the same answer again.
  local settled, answer = string.match(redis.call('HGET', job, 'settled') or '', '^(%S+) (%S+)$')
  return settled == member and answer
end
forget(id, execution)
redis.call('SREM', k.worker_executions, member)
if redis.call('EXISTS', job) == 0 then return false end  -- deleted under our hands

local status
if ending.becomes == 'finished' then
  status = close(id, 'finished', k.finished, k.result_ttl_s, ended_at, nil, ending.record)
elseif ending.becomes == 'failed' then
  status = close(id, 'failed', k.failed, k.failure_ttl_s, ended_at, ending.error, ending.record)
elseif ending.becomes == 'canceled' then
  status = close(id, 'canceled', k.canceled, k.failure_ttl_s, ended_at)
elseif ending.becomes == 'suspect' then
  status = again_as_suspect(id, ended_at)
else
  status = again(id, ended_at)
end
redis.call('HSET', job, 'settled', member .. ' ' .. status)
return status
"""
)

# ARGV: names, now in RQ's format. Takes back what the dead held, sweeps RQ's lists of the ended.
# Answers (job id, new status) pairs, flat.
REAP = (
    PRELUDE
    + """
local now, ended_at, taken = server_time(), ARGV[2], {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', k.leases, 0, now, 'LIMIT', 0, 100)) do
  local id, execution = string.match(member, '^(.*):([^:]*)$')
  redis.call('ZREM', k.leases, member)
  forget(id, execution)
  if redis.pcall('HGET', k.job .. id, 'status') == 'started' then
    taken[#taken + 1] = id
    taken[#taken + 1] = again_as_suspect(id, ended_at)
  end
end
for _, registry in ipairs({k.finished, k.failed, k.canceled}) do
  redis.call('ZREMRANGEBYSCORE', registry, 0, now)
end
return taken
"""
)


@dataclass(frozen=True)
class QueueKeys:
    """Where a queue keeps what. Names ending in a colon are prefixes of one key per job."""

    queue: str
    started: str
    finished: str
    failed: str
    canceled: str
    worker_executions: str
    job: str
    execution: str
    executions: str
    results: str
    leases: str
    last_claim: str = "darkroom:claim:"


@dataclass(frozen=True)
class LeaseTerms:
    """How long things last, and how a job ends that has taken too many workers along.

    `poison_error` is an ErrorRecord as JSON, `poison_record` RQ's entry for a failed result.
    """

    lease_s: float
    max_crashes: int
    result_ttl_s: int
    failure_ttl_s: int
    poison_error: str
    poison_record: Mapping[str, str]


class JobStatus(StrEnum):
    """RQ's words for what a lease ends in."""

    QUEUED = "queued"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Claim:
    """A job this worker holds a lease on. `data` is RQ's, as found: not to be trusted."""

    job_id: str
    execution_id: str
    data: bytes
    enqueued_at: str
    crashes: int
    context: JobContext = NO_CONTEXT

    @property
    def member(self) -> str:
        return f"{self.job_id}:{self.execution_id}"

    @property
    def names(self) -> dict[str, str]:
        """Whose log lines these are."""
        request = self.context.request_id
        return {"job": self.job_id, "request": request} if request else {"job": self.job_id}


class Leases:
    """One worker's dealings with one queue. Raises what redis-py raises.

    A call that fails may have had its effect; repeating it is always right.
    """

    def __init__(self, redis: Redis, worker: str, keys: QueueKeys, terms: LeaseTerms) -> None:
        self._redis = redis
        self._worker = worker
        self._job_prefix = keys.job
        names = {**asdict(keys), **asdict(terms), "poison_record": _flat(terms.poison_record)}
        self._names = json.dumps(names)
        self._claim, self._renew, self._settle, self._reap = (
            redis.register_script(script) for script in (CLAIM, RENEW, SETTLE, REAP)
        )
        self._next_execution = uuid.uuid4().hex

    def claim(self, idle: bool) -> Claim | None:
        """Take the next job, if there is one. Only an `idle` worker is given a suspect."""
        execution = self._next_execution
        found = self._claim(
            args=[
                self._names,
                execution,
                self._worker,
                int(idle),
                _now_as_rq_writes_it(),
            ]
        )
        # Only now: until an answer arrives, the next try must repeat this one.
        self._next_execution = uuid.uuid4().hex
        if found is None:
            return None
        job_id, data, enqueued_at, crashes, meta = found
        return Claim(
            job_id.decode(),
            execution,
            data,
            enqueued_at.decode(errors="replace"),
            int(crashes) if crashes.isdigit() else 1,
            JobContext.read(meta),
        )

    def renew(self, claims: Iterable[Claim], pipe: Pipeline) -> None:
        """Prolong every lease that is still ours; the pipeline's answer are the members lost."""
        members = [claim.member for claim in claims]
        self._renew(args=[self._names, *members], client=pipe)

    def marked(self, job_ids: list[str]) -> set[str]:
        """Those of the jobs that somebody asked to stop."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hexists(self._job_prefix + job_id, CANCEL_FIELD)
            return {job_id for job_id, mark in zip(job_ids, pipe.execute(), strict=True) if mark}

    def finish(self, claim: Claim, record: Mapping[str, str]) -> JobStatus | None:
        """End a job well; `record` is RQ's entry for its result.

        This and its siblings below answer what became of the job, or None if the lease was lost
        and the job is somebody else's by now.
        """
        return self._end(claim, becomes="finished", record=_flat(record))

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
        taken = self._reap(args=[self._names, _now_as_rq_writes_it()])
        return [
            (job_id.decode(), JobStatus(status.decode()))
            for job_id, status in zip(taken[::2], taken[1::2], strict=True)
        ]

    def _end(self, claim: Claim, **ending: str | list[str]) -> JobStatus | None:
        status = self._settle(
            args=[
                self._names,
                claim.job_id,
                claim.execution_id,
                _now_as_rq_writes_it(),
                json.dumps(ending),
            ]
        )
        return None if status is None else JobStatus(status.decode())


def _flat(record: Mapping[str, str]) -> list[str]:
    return [part for field in record.items() for part in field]


def _now_as_rq_writes_it() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
