"""Test of an API that is killed after it has queued a job and before it responds."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from protocol.queue.job import JobState
from protocol.registry.model_registry import ModelRegistry
from tests.chaos.bucket import Bucket
from tests.chaos.journal import read_journal
from tests.chaos.proxy import Proxy
from tests.chaos.single import worker
from tests.chaos.stack import Program
from tests.service.conftest import CARD, word_tokenizer
from tests.support.redis_server import RedisServer, free_port
from tests.worker.consumer.harness import MODEL, client, job_queue, outcome, wait_for

SUBMISSION = b"failure_ttl"  # part of the request that queues a job


def post(url: str, key: str) -> Any:
    headers = {"Prefer": "respond-async", "Idempotency-Key": key}
    return httpx.post(
        f"{url}/v1/txt2img", json={"prompt": "a cat"}, headers=headers, timeout=60
    ).json()


def is_reachable(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=60).is_success
    except httpx.TransportError:
        return False


def test_retry_after_a_killed_api_finds_the_queued_job(tmp_path: Path) -> None:
    with (
        RedisServer(appendfsync="always") as server,
        Proxy(server.port) as proxy,
        Bucket() as bucket,
        ThreadPoolExecutor(1) as pool,
    ):
        ModelRegistry(client(server.url)).publish(
            CARD.model_copy(update={"name": MODEL}), word_tokenizer()
        )
        ports = free_port(), free_port()
        killed, other = (
            Program(
                f"api-{port}",
                "service",
                {**bucket.environment, "REDIS_URL": redis_url, "PORT": str(port)},
                tmp_path / f"api-{port}.log",
            )
            for port, redis_url in zip(ports, (proxy.url, server.url), strict=True)
        )
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        killed.start()
        other.start()
        try:
            for url in urls:
                wait_for(lambda url=url: is_reachable(url))  # type: ignore[misc]
            first = post(urls[0], "a first job, so that the server has the script")["id"]
            held = proxy.hold_response_to(SUBMISSION)
            unanswered = pool.submit(post, urls[0], "order")
            wait_for(held.triggered.is_set)
            killed.kill()
            assert isinstance(unanswered.exception(), httpx.TransportError)
            [queued] = set(read_journal(server.folder).jobs) - {first}
            assert post(urls[1], "order")["id"] == queued
        finally:
            killed.kill()
            other.kill()
        with worker(server.url, bucket):
            queue = job_queue(server.url)
            assert outcome(queue, queued).state is JobState.FINISHED
            assert outcome(queue, first).state is JobState.FINISHED
        history = read_journal(server.folder).jobs
        assert set(history) == {first, queued}
        assert all(job.ended_once for job in history.values())
