"""Options and tasks are kept for each client, and no other client sees them."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from protocol.clients import options as client_options
from protocol.clients.options import ChosenOptions, ClientOptions, options_key
from protocol.clients.tasks import MAX_ENDED, MAX_TASKS, ClientTask, ClientTasks
from protocol.connection.redis_client import connect, connect_async
from protocol.errors import DarkroomError, OptionsChanged
from protocol.queue.submission import Submission
from protocol.request.object_keys import new_job_id
from tests.worker.consumer.harness import job_queue, request


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = connect(redis_url)
    yield client
    client.close()


def task(name: str) -> ClientTask:
    return ClientTask(id=name, job_ids=(new_job_id(),), kind="txt2img")


def keys_without_expiry(redis: Redis) -> list[bytes]:
    return [name for name in redis.scan_iter("*") if redis.ttl(name) == -1]


@pytest.fixture
async def async_redis(redis_url: str) -> AsyncIterator[AsyncRedis]:
    client = connect_async(redis_url)
    yield client
    await client.aclose()


async def test_options_are_added_up_and_belong_to_one_client(
    redis: Redis, async_redis: AsyncRedis
) -> None:
    options = ClientOptions(redis, async_redis)
    assert (await options.read("one")).values == {}
    options.choose("one", {"a": 1, "b": ["x", None]})
    options.choose("one", {"a": 2.5})
    options.choose("one", {})
    options.choose("", {"a": "other"})
    assert (await options.read("one")).values == {"a": 2.5, "b": ["x", None]}
    assert (await options.read("")).values == {"a": "other"}
    assert (await options.read("two")).values == {}
    assert keys_without_expiry(redis) == []


async def test_options_are_read_though_a_connection_was_closed(
    redis: Redis, async_redis: AsyncRedis
) -> None:
    options = ClientOptions(redis, async_redis)
    options.choose("one", {"a": 1})
    assert (await options.read("one")).values == {"a": 1}
    redis.client_kill_filter(_type="normal", skipme=True)
    assert (await options.read("one")).values == {"a": 1}


async def test_job_is_refused_if_its_options_were_changed(
    redis: Redis, redis_url: str, async_redis: AsyncRedis
) -> None:
    queue = job_queue(redis_url)
    here, elsewhere = (ClientOptions(redis, async_redis) for _ in range(2))

    def submit(options: ChosenOptions) -> str | DarkroomError:
        [answer] = queue.submit_many([Submission(request(), options=options.expected)])
        return answer

    assert isinstance(submit(here.last_seen("one")), str)
    elsewhere.choose("one", {"a": 1})
    assert isinstance(submit(here.last_seen("one")), OptionsChanged)
    assert (await here.read("one")).values == here.last_seen("one").values == {"a": 1}
    assert isinstance(submit(here.last_seen("one")), str)
    elsewhere.choose("one", {"a": 1})  # the same again
    assert isinstance(submit(here.last_seen("one")), OptionsChanged)
    assert isinstance(submit(here.last_seen("two")), str)
    redis.delete(options_key("one"))  # expired
    assert isinstance(submit(here.last_seen("one")), OptionsChanged)


async def test_options_of_a_bounded_number_of_clients_are_remembered(
    redis: Redis, async_redis: AsyncRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_options, "MAX_SEEN", 2)
    options = ClientOptions(redis, async_redis)
    for client in ("one", "two", "one", "three"):
        options.choose(client, {"a": client})
        await options.read(client)
    assert options.last_seen("two").values == {}
    assert options.last_seen("one").values == {"a": "one"}


async def test_options_are_kept_while_tasks_begin(redis: Redis, async_redis: AsyncRedis) -> None:
    ClientOptions(redis, async_redis).choose("one", {"a": 1})
    redis.expire(options_key("one"), 60)
    await ClientTasks(redis, async_redis).begin("one", task("first"))
    assert redis.ttl(options_key("one")) > 60


async def test_tasks_begin_and_end(redis: Redis, async_redis: AsyncRedis) -> None:
    tasks = ClientTasks(redis, async_redis)
    first, second = task("first"), task("second")
    for one in (first, second):
        await tasks.begin("client", one)
    assert [found for found, _ in tasks.begun("client")] == [first, second]
    assert all(age_s >= 0 for _, age_s in tasks.begun("client"))
    assert tasks.begun("another") == []
    await tasks.end("client", first)
    assert [found for found, _ in tasks.begun("client")] == [second]
    assert (tasks.ended("client"), tasks.ended("another")) == (["first"], [])
    assert keys_without_expiry(redis) == []


async def test_only_the_latest_tasks_are_kept(redis: Redis, async_redis: AsyncRedis) -> None:
    tasks = ClientTasks(redis, async_redis)
    many = [task(f"{i:03}") for i in range(MAX_TASKS + 3)]
    for one in many:
        await tasks.begin("client", one)
    assert [found for found, _ in tasks.begun("client")] == many[3:]
    for one in many:
        await tasks.end("client", one)
    assert tasks.ended("client") == [one.id for one in many[: -MAX_ENDED - 1 : -1]]


async def test_tasks_of_another_version_are_skipped(redis: Redis, async_redis: AsyncRedis) -> None:
    tasks = ClientTasks(redis, async_redis)
    await tasks.begin("client", task("first"))
    [name] = redis.scan_iter("*:tasks:*")
    redis.zadd(name, {'{"other": 1}': 0})
    assert [found.id for found, _ in tasks.begun("client")] == ["first"]
