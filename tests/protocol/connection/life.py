"""A house's life with one Redis: `python -m tests.protocol.connection.life URL [before
failover]`, for a test.

Prints a line for each thing done, and waits for a line where the test is to kill the master. A
program of its own, because the names of keys are chosen once per process.
"""

import asyncio
import sys
import time

from protocol.connection.redis_client import connect, connect_async
from protocol.errors import QueueUnavailable
from protocol.queue.job import TERMINAL, JobState, JobView
from protocol.queue.job_queue import JobQueue
from protocol.queue.progress import channel, progress_messages
from protocol.registry.model_registry import ModelRegistry
from protocol.registry.presence import Presence, WorkerReport, WorkerState
from protocol.settings import Settings
from tests.protocol.records import CARD
from tests.worker.consumer.harness import client, close_clients, request, running_worker, settings
from worker.settings import WorkerSettings

PATIENCE_S = 60.0


def patiently_submit(queue: JobQueue) -> str:
    """As a client that obeys Retry-After."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return queue.submit(request(), client="ann")
        except QueueUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def ended(queue: JobQueue, job_id: str) -> JobView:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            view = queue.view(job_id, "ann")
        except QueueUnavailable:
            time.sleep(0.1)
            continue
        if view.state in TERMINAL:
            return view
        time.sleep(0.01)
    raise AssertionError(f"{job_id} never ended")


async def hear_of(url: str, queue: JobQueue) -> JobState:
    """The first news of a cancelled job, by pub/sub."""
    listener = connect_async(url)
    try:
        job_id = queue.submit(request(), client="ann")
        async with listener.pubsub() as pubsub:
            await pubsub.subscribe(channel(job_id))
            queue.cancel(job_id, "ann")
            return (await anext(progress_messages(pubsub))).state
    finally:
        await listener.aclose()


def main(url: str, failover: bool) -> None:
    terms: WorkerSettings = settings(url, worker_lease_s=30.0)
    with connect(Settings(redis_url=url).redis_url) as redis:
        ModelRegistry(redis).publish(CARD, "{}")
        Presence(redis).report(WorkerReport(name="a", state=WorkerState.READY))
        assert [one.name for one in Presence(redis).workers()] == ["a"]
    queue = JobQueue(client(url), terms)
    assert asyncio.run(hear_of(url, queue)) is JobState.CANCELLED
    print("heard", flush=True)
    waiting = [queue.submit(request(priority=p), client="ann") for p in ("low", "high")]
    if failover:
        print("kill", flush=True)
        input()
    with running_worker(terms):
        for job_id in [*waiting, patiently_submit(queue)]:
            assert ended(queue, job_id).state is JobState.FINISHED
        print("drawn", flush=True)
    close_clients()


if __name__ == "__main__":
    main(sys.argv[1], "failover" in sys.argv[2:])
