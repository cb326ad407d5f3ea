"""A program that runs jobs with a given Redis, for a test.

    python -m tests.protocol.connection.job_round_trip URL [failover]

It prints a line for each step, and waits for a line after "kill", when the test kills the master.
It is a program of its own because the prefix of keys is read once per process.
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

TIMEOUT_S = 60.0


def submit_with_retries(queue: JobQueue) -> str:
    """Submit a job as a client that obeys Retry-After."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return queue.submit(request(), client="ann")
        except QueueUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def wait_for_end(queue: JobQueue, job_id: str) -> JobView:
    deadline = time.monotonic() + TIMEOUT_S
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


async def cancel_and_listen(url: str, queue: JobQueue) -> JobState:
    """Cancel a job and return the state in the first message about it."""
    subscriber = connect_async(url)
    try:
        job_id = queue.submit(request(), client="ann")
        async with subscriber.pubsub() as pubsub:
            await pubsub.subscribe(channel(job_id))
            queue.cancel(job_id, "ann")
            return (await anext(progress_messages(pubsub))).state
    finally:
        await subscriber.aclose()


def main(url: str, failover: bool) -> None:
    terms: WorkerSettings = settings(url, worker_lease_s=30.0)
    with connect(Settings(redis_url=url).redis_url) as redis:
        ModelRegistry(redis).publish(CARD, "{}")
        Presence(redis).report(WorkerReport(name="a", state=WorkerState.READY))
        assert [one.name for one in Presence(redis).workers()] == ["a"]
    queue = JobQueue(client(url), terms)
    assert asyncio.run(cancel_and_listen(url, queue)) is JobState.CANCELLED
    print("cancelled", flush=True)
    waiting = [queue.submit(request(priority=p), client="ann") for p in ("low", "high")]
    if failover:
        print("kill", flush=True)
        input()
    with running_worker(terms):
        for job_id in [*waiting, submit_with_retries(queue)]:
            assert wait_for_end(queue, job_id).state is JobState.FINISHED
        print("generated", flush=True)
    close_clients()


if __name__ == "__main__":
    main(sys.argv[1], "failover" in sys.argv[2:])
