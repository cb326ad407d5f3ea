"""Uploaded files belong to their client, are bounded, and are deleted when they expire."""

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from protocol.clients.files import ClientFile, ClientFiles, FileBounds
from protocol.connection.redis_client import connect
from protocol.errors import StoreUnavailable, UnknownFile, UnknownImage
from protocol.request.object_keys import upload_key
from protocol.settings import Settings
from protocol.storage.deleted_jobs import DELETIONS, DeletedJobs
from protocol.storage.object_store import ObjectStore
from protocol.storage.pins import Pins
from tests.support.redis_server import RedisServer

BOUNDS = FileBounds(ttl_s=60, files=3, bytes=100)
CLIENTS = count()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    client = connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore.open("memory:///")


@pytest.fixture
def files(redis: Redis, store: ObjectStore) -> ClientFiles:
    return ClientFiles(redis, store, BOUNDS)


def add(files: ClientFiles, client: str, data: bytes = b"data") -> ClientFile:
    return files.add(client, "a.png", data, "image/png", {"tags": ["x"]})


def collect(redis: Redis, store: ObjectStore) -> None:
    DeletedJobs(redis, store, Pins(redis, Settings())).collect()


def test_file_is_read_back_by_its_client_and_the_operator_only(files: ClientFiles) -> None:
    kept = add(files, "ann")
    assert files.file(kept.id, "ann") == files.file(kept.id, None) == kept
    assert files.read(kept) == b"data"
    assert (kept.size, kept.metadata, kept.expires_at - kept.created_at) == (4, {"tags": ["x"]}, 60)
    for client in ("bob", ""):
        assert files.of(client) == []
        with pytest.raises(UnknownFile):
            files.file(kept.id, client)


@pytest.mark.parametrize("file_id", ["", "0" * 32, "../" * 10, "0" * 31 + "\n"])
def test_other_ids_are_unknown(files: ClientFiles, file_id: str) -> None:
    with pytest.raises(UnknownFile):
        files.file(file_id, None)


def test_deleted_file_is_unknown_and_its_object_is_deleted(
    files: ClientFiles, redis: Redis, store: ObjectStore
) -> None:
    kept, other = add(files, "ann"), add(files, "ann")
    files.delete(kept)
    collect(redis, store)
    with pytest.raises(UnknownFile):
        files.file(kept.id, "ann")
    with pytest.raises(UnknownImage):
        files.read(kept)
    assert files.of("ann") == [other]
    assert files.read(other) == b"data"


def test_object_is_deleted_when_its_file_expires(
    files: ClientFiles, redis: Redis, store: ObjectStore
) -> None:
    kept = add(files, "ann")
    collect(redis, store)
    assert store.has(upload_key(kept.id))
    assert 0 < redis.ttl(f"darkroom:file:{kept.id}") <= BOUNDS.ttl_s
    redis.zadd(DELETIONS, {upload_key(kept.id): 0})
    collect(redis, store)
    assert not store.has(upload_key(kept.id))


def test_nothing_is_kept_for_ever(files: ClientFiles, redis: Redis) -> None:
    add(files, "ann")
    names = [name for name in redis.scan_iter("*") if redis.ttl(name) == -1]
    assert names == [DELETIONS.encode()]


def test_file_that_cannot_be_stored_is_forgotten(redis: Redis) -> None:
    class Broken(ObjectStore):
        def put(self, key: str, data: bytes, content_type: str) -> None:
            raise StoreUnavailable

    files = ClientFiles(redis, Broken(None), BOUNDS)
    with pytest.raises(StoreUnavailable):
        add(files, "ann")
    assert files.of("ann") == []


@given(sizes=st.lists(st.integers(0, 120), max_size=12))
def test_oldest_files_make_room(redis_server: RedisServer, sizes: list[int]) -> None:
    """The newest files that fit both bounds are kept, and the newest one in any case."""
    with connect(redis_server.url) as redis:
        store = ObjectStore.open("memory:///")
        files = ClientFiles(redis, store, BOUNDS)
        client = f"client {next(CLIENTS)}"
        added = [add(files, client, bytes(size)) for size in sizes]
        expected: list[ClientFile] = []
        for file in reversed(added):
            total = sum(one.size for one in expected) + file.size
            if expected and (len(expected) == BOUNDS.files or total > BOUNDS.bytes):
                break
            expected.append(file)
        assert files.of(client) == expected
