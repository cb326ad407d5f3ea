"""The webhooks of a chaos run: what was told about each job, compared with the journal."""

from collections import defaultdict
from collections.abc import Sequence

import redis

from protocol.queue.webhooks import DUE
from tests.chaos.journal import Journal
from tests.chaos.load import Observations
from tests.service.webhooks.receiver import Call, Receiver

SETTINGS = {
    "DARKROOM_WEBHOOKS": "any",
    "DARKROOM_WEBHOOK_RETRY_S": "0.5",
    "DARKROOM_WEBHOOK_TIMEOUT_S": "2",
    # Without it the secret is in Redis, and lost when that is emptied.
    "DARKROOM_SIGNING_SECRET": "the-same-for-both-APIs-0123456789abcdef",
}
# The receiver's first responses: three in ten of the first calls fail.
STATUSES = (500, 204, 204, 503, 204, 204, 204, 204, 429, 204) * 12


def all_sent(redis_url: str) -> bool:
    """Return True if no webhook is left in Redis."""
    with redis.Redis.from_url(redis_url) as client:
        return client.zcard(DUE) == 0


def received(receiver: Receiver) -> list[Call]:
    """Return the calls that a receiver got."""
    calls = []
    while not receiver.empty:
        calls.append(receiver.next())
    return calls


def wrong_calls(journal: Journal, calls: Sequence[Call], secret: str) -> set[str]:
    """Return the jobs about which a call has a wrong id, signature or state, or another body than
    an earlier call; each with the fault, after a colon."""
    wrong = set()
    bodies = defaultdict(set)
    for call in calls:
        body = call.json()
        job, state = body["data"]["id"], body["data"]["state"]
        history = journal.jobs.get(job)
        endings = {entry.state for entry in history.endings} if history else set()
        faults = {
            "id": call.id != f"msg_{job}",
            "type": body["type"] != f"job.{state}",
            f"state {state} of {sorted(endings)}": state not in endings,
            "signature": not call.verifies(secret),
        }
        wrong |= {f"{job}: {name}" for name, found in faults.items() if found}
        bodies[job].add(call.body)
    # A job that was queued again after Redis was emptied ended again, too.
    for job, different in bodies.items():
        if len(different) > max(1, _records(journal, job)):
            wrong.add(f"{job}: {len(different)} bodies {sorted(different)}")
    return wrong


def untold(journal: Journal, observations: Observations, calls: Sequence[Call]) -> set[str]:
    """Return the jobs that have ended without a call, and were neither deleted nor lost."""
    told = {call.json()["data"]["id"] for call in calls}
    ended = {
        job for job, history in journal.jobs.items() if history.endings and history.gone_at is None
    }
    return ended - observations.deleting - told


def _records(journal: Journal, job: str) -> int:
    return len(journal.jobs[job].records) if job in journal.jobs else 0
