"""One run: a house, a load, an adversary, and the verdict."""

import asyncio
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from protocol.queue.job import TERMINAL
from protocol.queue.job_queue import STATES
from tests.chaos.faults import Adversary, faults
from tests.chaos.load import Load, draw_references, recipes
from tests.chaos.stack import LocalStack, local_stack, wait_for
from tests.chaos.verdict import Verdict, judge
from worker.settings import WorkerSettings

# We kill more often than any production does, and a job that sees this many workers die would be
# taken for the culprit. Poison has tests of its own.
MAX_CRASHES = 50
RESULT_TTL_S = 120
SWEEP_S = 5.0
WRITTEN_WITHIN_S = 3.0  # by a server that syncs every second, or a little later
FOR_EVER = -1  # Redis' word for a key that never expires
JOB_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
REGISTRY = re.compile(r"rq:(finished|failed|canceled):")  # swept as their entries expire
NEWS = re.compile(r"darkroom:progress:")  # kept for an hour, whatever becomes of the job
SETTLE_WITHIN_S = 120.0  # after the last fault, until every job has ended


@dataclass(frozen=True)
class Plan:
    """How much of everything. The same seed draws the same requests, faults and pauses."""

    seed: int
    jobs: int
    clients: int
    recipes: int
    most_steps: int
    pause_s: float  # from one fault to the next, on average
    faults_for_s: float  # no more of them after that, whatever is left to do
    appendfsync: str = "always"
    until_expired: bool = False  # wait for the records to expire, and look for what they left
    only: str = ""  # faults whose name contains this


def play(plan: Plan, folder: Path) -> Verdict:
    """Everything is started below `folder`, and gone in the end."""
    rng = random.Random(plan.seed)
    settings = {
        "DARKROOM_WORKER_MAX_CRASHES": str(MAX_CRASHES),
        "DARKROOM_RESULT_TTL_S": str(RESULT_TTL_S),
        "DARKROOM_FAILURE_TTL_S": str(RESULT_TTL_S),
        "DARKROOM_WORKER_SWEEP_S": str(SWEEP_S),
    }
    wanted = recipes(rng, plan.recipes, (3, plan.most_steps))
    repertoire = [
        fault for fault in faults(WorkerSettings().worker_lease_s) if plan.only in fault.name
    ]
    with local_stack(folder, plan.appendfsync, **settings) as house:
        references = asyncio.run(draw_references(house.urls[0], wanted))
        load = Load(house.urls, wanted, references, plan.jobs, plan.clients, rng)
        adversary = Adversary(house, repertoire, plan.pause_s, rng)
        _clash(load, adversary, plan.faults_for_s)
        wait_for(lambda: _all_ended(house), SETTLE_WITHIN_S)
        time.sleep(WRITTEN_WITHIN_S)
        if plan.until_expired:
            time.sleep(RESULT_TTL_S + 3 * SWEEP_S)
        return judge(
            house.journal(),
            load.notes,
            adversary.incidents,
            orders=plan.recipes + plan.jobs,
            orphans=list(_orphans(house, plan.until_expired)),
            fallen=[program.name for program in house.programs if program.fell],
        )


def _clash(load: Load, adversary: Adversary, faults_for_s: float) -> None:
    """Let both do their work. The adversary's is done here, in the thread that lasts."""
    deadline = time.monotonic() + faults_for_s

    def drive() -> None:
        # What is not done by then is not waited for: the journal says what became of it.
        with suppress(TimeoutError):
            asyncio.run(asyncio.wait_for(load.run(), faults_for_s + SETTLE_WITHIN_S))

    working = threading.Thread(target=drive, name="load")
    working.start()
    adversary.work(until=lambda: not working.is_alive() or time.monotonic() > deadline)
    working.join()


def _all_ended(house: LocalStack) -> bool:
    with redis.Redis.from_url(house.redis.url, decode_responses=True) as client:
        keys = list(client.scan_iter("rq:job:*", count=1000))
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, "status")
            return all(STATES.get(status) in TERMINAL for status in pipe.execute() if status)


def _orphans(house: LocalStack, expired: bool) -> Iterator[str]:
    """Whatever speaks of jobs that have ended and would stay for ever; once `expired`, all that
    speaks of any job. Redis' keys, and members of its collections, and objects in the bucket.
    """
    with redis.Redis.from_url(house.redis.url, decode_responses=True) as client:
        for key in client.scan_iter(count=1000):
            goes_by_itself = client.ttl(key) != FOR_EVER or REGISTRY.match(key)
            if NEWS.match(key) or (goes_by_itself and not expired):
                continue
            if JOB_ID.search(key):
                yield key
            else:
                yield from (f"{key}: {member}" for member in _members(client, key))
        known = set(house.journal().jobs)
    for key in house.bucket.objects.copy():
        if (found := re.match(r"results/(\w+)/", key)) and (expired or found[1] not in known):
            yield key


def _members(client: redis.Redis, key: str) -> list[str]:
    """The entries of a collection that speak of a job."""
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
