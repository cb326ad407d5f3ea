"""The files that a client has uploaded, to be named in its later requests.

The bytes are in the object store and the record is in Redis, so every API process has both. A file
belongs to its client. It is deleted when it expires (`protocol.storage.deleted_jobs`), or earlier
to make room for new ones.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError
from redis import Redis

from protocol.clients.names import client_name
from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors, server_time
from protocol.connection.scripts import PipelinedScript
from protocol.errors import UnknownFile
from protocol.queue.job import Count, JobId
from protocol.record import Float, Record, Text
from protocol.request.object_keys import is_job_id, new_job_id, upload_key
from protocol.storage.object_store import ObjectStore

MAX_NAME = 255  # characters of a file's name


@dataclass(frozen=True)
class FileBounds:
    """The files that are kept for a client: for how long, how many, and their bytes together."""

    ttl_s: int
    files: int
    bytes: int


class ClientFile(Record):
    """The record of a file. Times are seconds since 1970, on Redis' clock."""

    id: JobId
    client: Text
    name: Annotated[Text, Field(max_length=MAX_NAME)]
    content_type: Text
    size: Count
    sha256: Text
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    created_at: Float
    expires_at: Float


class ClientFiles:
    """The files of clients. Raises `QueueUnavailable` and `StoreUnavailable`.

    The caller checks the bytes of a file, and bounds its metadata.
    """

    def __init__(self, redis: Redis, store: ObjectStore, bounds: FileBounds) -> None:
        self._redis = redis
        self._store = store
        self._bounds = bounds
        self._add = PipelinedScript(redis, "file_add", "files")
        self._delete = PipelinedScript(redis, "file_delete", "files")

    def add(
        self,
        client: str,
        name: str,
        data: bytes,
        content_type: str,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> ClientFile:
        """Keep a file of a client and return its record; the client's oldest files make room."""
        now, bounds = server_time(self._redis), self._bounds
        file = ClientFile(
            id=new_job_id(),
            client=client,
            name=name[:MAX_NAME],
            content_type=content_type,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            metadata=dict(metadata or {}),
            created_at=now,
            expires_at=now + bounds.ttl_s,
        )
        # The record is first: an object without one would be garbage.
        with redis_errors():
            self._add(
                id=file.id,
                client=client_name(client),
                record=file.model_dump_json(),
                size=file.size,
                seconds=bounds.ttl_s,
                max_files=bounds.files,
                max_bytes=bounds.bytes,
            )
        try:
            self._store.put(upload_key(file.id), data, content_type)
        except BaseException:
            self.delete(file)
            raise
        return file

    def file(self, file_id: str, client: str | None) -> ClientFile:
        """Return the record of a file. Raises UnknownFile if there is none that `client` may see.

        None is the operator, who can see the files of all clients.
        """
        if not is_job_id(file_id):
            raise UnknownFile(file_id)
        with redis_errors():
            found: bytes | None = self._redis.get(_key(file_id))  # type: ignore[assignment]  # sync client
        file = _read(found)
        if file is None or (client is not None and file.client != client):
            raise UnknownFile(file_id)
        return file

    def read(self, file: ClientFile) -> bytes:
        """Return the bytes of a file. Raises UnknownImage if they were deleted meanwhile."""
        return self._store.get(upload_key(file.id))

    def of(self, client: str) -> list[ClientFile]:
        """Return the records of a client's files, the newest first."""
        with redis_errors():
            members: list[bytes] = self._redis.zrevrange(key("files", client_name(client)), 0, -1)  # type: ignore[assignment]  # sync client
            if not members:
                return []
            ids = [member.decode().partition(" ")[0] for member in members]
            found: list[bytes | None] = self._redis.mget(map(_key, ids))  # type: ignore[assignment]  # sync client
        return [file for file in map(_read, found) if file is not None]

    def delete(self, file: ClientFile) -> None:
        """Forget a file; `protocol.storage.deleted_jobs` deletes its object."""
        with redis_errors():
            self._delete(id=file.id, client=client_name(file.client), size=file.size)


def _key(file_id: str) -> str:
    return key("file", file_id)


def _read(text: bytes | None) -> ClientFile | None:
    with suppress(ValidationError):  # of another version of Darkroom
        return None if text is None else ClientFile.model_validate_json(text)
    return None
