"""One chaos run: the stack, the load, the faults and the report."""

import asyncio
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from protocol.queue.job import TERMINAL
from protocol.queue.job_queue import STATES
from tests.chaos import webhooks
from tests.chaos.faults import FaultInjector, faults
from tests.chaos.load import Load, compare_with_list, generate_references, random_requests
from tests.chaos.report import Report, make_report
from tests.chaos.stack import ChaosStack, chaos_stack, wait_for
from tests.service.webhooks.receiver import Receiver
from worker.settings import WorkerSettings

# Workers die more often here than in production, and with the default limit a job that was on many
# of them would be failed as their cause. Jobs that kill workers have other tests.
MAX_CRASHES = 50
RESULT_TTL_S = 120
SWEEP_S = 5.0
WRITTEN_WITHIN_S = 3.0  # by a server that syncs every second, or a little later
NO_EXPIRY = -1  # Redis' TTL of a key that never expires
JOB_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
# Cleaned as their entries expire, or are due.
REGISTRY = re.compile(r"rq:(finished|failed|canceled):|darkroom:(index:|deletions$)")
# Kept for a time of their own, of an hour to two days, independent of the job's record.
KEPT_LONGER = re.compile(r"darkroom:(progress|deleted|batch|users):")
SETTLE_WITHIN_S = 120.0  # after the last fault, until every job has ended
# After the last fault, until the clients have made all their requests: a slow machine is no fault.
LOAD_WITHIN_S = 600.0


@dataclass(frozen=True)
class Plan:
    """Settings of a run. The same seed gives the same requests, faults and pauses."""

    seed: int
    jobs: int
    clients: int
    requests: int  # different ones
    most_steps: int
    pause_s: float  # mean time from one fault to the next
    faults_for_s: float  # no fault after that time
    appendfsync: str = "always"
    until_expired: bool = False  # wait until the records expire, and check that nothing is left
    only: str = ""  # only faults whose name contains this


def run(plan: Plan, folder: Path) -> Report:
    """Run a plan with all files below `folder`; all programs have ended on return."""
    rng = random.Random(plan.seed)
    settings = {
        "DARKROOM_WORKER_MAX_CRASHES": str(MAX_CRASHES),
        "DARKROOM_RESULT_TTL_S": str(RESULT_TTL_S),
        "DARKROOM_FAILURE_TTL_S": str(RESULT_TTL_S),
        "DARKROOM_WORKER_SWEEP_S": str(SWEEP_S),
        **webhooks.SETTINGS,
    }
    selected = [
        fault for fault in faults(WorkerSettings().worker_lease_s) if plan.only in fault.name
    ]
    began = time.time()
    with (
        Receiver(*webhooks.STATUSES) as receiver,
        chaos_stack(folder, plan.appendfsync, **settings) as stack,
    ):
        secret = httpx.get(f"{stack.urls[0]}/v1/webhooks/secret", timeout=60).json()["key"]
        requests = random_requests(rng, plan.requests, (3, plan.most_steps), receiver.url)
        references = asyncio.run(generate_references(stack.urls[0], requests))
        load = Load(stack.urls, requests, references, plan.jobs, plan.clients, rng)
        injector = FaultInjector(stack, selected, plan.pause_s, rng)
        _run_together(load, injector, plan.faults_for_s)
        wait_for(lambda: _all_ended(stack), SETTLE_WITHIN_S)
        wait_for(lambda: webhooks.all_sent(stack.redis.url), SETTLE_WITHIN_S)
        compare_with_list(stack.urls[0], load.observations)
        time.sleep(WRITTEN_WITHIN_S)
        if plan.until_expired:
            time.sleep(RESULT_TTL_S + 3 * SWEEP_S)
        return make_report(
            stack.journal(),
            load.observations,
            injector.incidents,
            submissions=plan.requests + load.most_jobs,
            orphans=list(_orphans(stack, plan.until_expired)),
            crashed=[program.name for program in stack.programs if program.crashed],
            ran=(began, time.time()),
            calls=webhooks.received(receiver),
            secret=secret,
        )


def _run_together(load: Load, injector: FaultInjector, faults_for_s: float) -> None:
    """Run the load in a thread and the injector in this one, which starts processes and so must
    live as long as they."""
    deadline = time.monotonic() + faults_for_s

    def run_load() -> None:
        # Jobs that are not done by then are not waited for: the journal has their states.
        with suppress(TimeoutError):
            asyncio.run(asyncio.wait_for(load.run(), faults_for_s + LOAD_WITHIN_S))

    thread = threading.Thread(target=run_load, name="load")
    thread.start()
    injector.run(until=lambda: not thread.is_alive() or time.monotonic() > deadline)
    thread.join()


def _all_ended(stack: ChaosStack) -> bool:
    with redis.Redis.from_url(stack.redis.url, decode_responses=True) as client:
        keys = list(client.scan_iter("rq:job:*", count=1000))
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, "status")
            return all(STATES.get(status) in TERMINAL for status in pipe.execute() if status)


def _orphans(stack: ChaosStack, expired: bool) -> Iterator[str]:
    """Yield the garbage of ended jobs: Redis keys, members of collections, and bucket objects.

    Before the records have expired, these are entries that would never expire; once `expired`, all
    entries that refer to a job.
    """
    with redis.Redis.from_url(stack.redis.url, decode_responses=True) as client:
        for key in client.scan_iter(count=1000):
            expires = client.ttl(key) != NO_EXPIRY or REGISTRY.match(key)
            if expires and (not expired or KEPT_LONGER.match(key)):
                continue
            if JOB_ID.search(key):
                yield key
            else:
                yield from (f"{key}: {member}" for member in _members(client, key))
        known = set(stack.journal().jobs)
    for key in stack.bucket.objects.copy():
        if (found := re.match(r"results/(\w+)/", key)) and (expired or found[1] not in known):
            yield key


def _members(client: redis.Redis, key: str) -> list[str]:
    """Return the members of a collection that refer to a job."""
    match client.type(key):
        case "list":
            found = map(str, client.lrange(key, 0, -1))
        case "zset":
            found = map(str, client.zrange(key, 0, -1))
        case "set":
            found = map(str, client.smembers(key))
        case _:
            return []
    return [member for member in found if JOB_ID.search(member)]
