"""A program that can write to Redis can fail a job, but not run code or stop a worker."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import JobFailed
from protocol.queue.job import JobState
from protocol.queue.job_queue import GENERATE
from protocol.queue.submission import MAX_JOB_BYTES, read_request
from protocol.request.object_keys import new_job_id
from tests.worker.consumer.harness import (
    MODEL,
    REQUEST,
    client,
    job_queue,
    outcome,
    request,
    running_worker,
    settings,
)

CALL = REQUEST.model_dump(mode="json")


def call(*parts: Any) -> bytes:
    return zlib.compress(json.dumps(parts).encode())


HOSTILE = {
    "another function": call("os.system", None, ["touch pwned"], {}),
    "ours, with more arguments": call(GENERATE, None, ["x"], {"request": CALL}),
    "ours, on an object": call(GENERATE, "x", [], {"request": CALL}),
    "ours, with another keyword": call(GENERATE, None, [], {"request": CALL, "more": 1}),
    "keywords that are a list": call(GENERATE, None, [], ["request"]),
    "no request": call(GENERATE, None, [], {"request": None}),
    "an unknown field": call(GENERATE, None, [], {"request": {**CALL, "url": "http://x"}}),
    "too many steps": call(GENERATE, None, [], {"request": {**CALL, "steps": 10**9}}),
    "steps as text": call(GENERATE, None, [], {"request": {**CALL, "steps": "3"}}),
    "a path for a key": call(GENERATE, None, [], {"request": {**CALL, "image_key": "/etc/passwd"}}),
    "another model": call(GENERATE, None, [], {"request": {**CALL, "model": "other"}}),
    "a number": call(),
    "not compressed": json.dumps([GENERATE, None, [], {"request": CALL}]).encode(),
    "not JSON": zlib.compress(b"\x80\x04\x95pickle"),
    "nested deeply": zlib.compress(b"[" * 200_000),
    "a bomb": zlib.compress(b"[" + b" " * 50_000_000 + b"]", level=1),
    "nothing": b"",
}


def test_hostile_jobs_fail_and_the_worker_goes_on(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    redis = client(redis_url)
    queue = job_queue(redis_url)
    ids = {}
    for name, data in HOSTILE.items():
        ids[name] = new_job_id()
        key = f"rq:job:{ids[name]}"
        redis.hset(key, mapping={"status": "queued", "origin": f"darkroom-{MODEL}", "data": data})
        redis.rpush(f"rq:queue:darkroom-{MODEL}", ids[name])
    with running_worker(settings(redis_url)):
        for name, job_id in ids.items():
            assert outcome(queue, job_id).state is JobState.FAILED, name
        assert outcome(queue, queue.submit(request())).state is JobState.FINISHED
    assert list(tmp_path.iterdir()) == []


def test_invalid_queue_entries_are_dropped(redis_url: str) -> None:
    redis = client(redis_url)
    redis.set("rq:job:text", "not a hash")
    redis.hset("rq:job:odd", mapping={"status": "no status of ours"})
    redis.rpush(f"rq:queue:darkroom-{MODEL}", "text", "odd", "gone", "a:b", b"\xff\xfe", "")
    queue = job_queue(redis_url)
    with running_worker(settings(redis_url)):
        assert outcome(queue, queue.submit(request())).state is JobState.FINISHED
    assert queue.depth(MODEL) == 0


def test_result_of_another_program_is_not_trusted(redis_url: str) -> None:
    redis = client(redis_url)
    queue = job_queue(redis_url)
    for record in ("type 1", "type 1 return_value !", "type x", "no type"):
        job_id = new_job_id()
        redis.hset(f"rq:job:{job_id}", mapping={"status": "finished"})
        add = f"XADD rq:results:{job_id} * {record}"
        redis.execute_command(*add.split())  # type: ignore[no-untyped-call]
        assert queue.view(job_id).state is JobState.FAILED


def test_largest_request_can_be_read() -> None:
    longest = request(prompt="\N{GRINNING FACE}" * 20_000, negative_prompt="\0" * 20_000)
    data = call(GENERATE, None, [], {"request": longest.model_dump(mode="json")})
    assert read_request(data) == longest
    with pytest.raises(JobFailed):
        read_request(zlib.compress(b'"' + b"x" * MAX_JOB_BYTES + b'"'))
