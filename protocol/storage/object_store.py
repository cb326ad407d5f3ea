"""Where pictures are kept: a folder, memory or a bucket, by URL. The only file that knows obstore.

The synchronous calls are used, from threads: the asynchronous ones abort the process at exit now
and then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store, from_url

from protocol.errors import StoreUnavailable, UnknownImage
from protocol.folder import Folder
from protocol.observing import Observe, observed
from protocol.request.object_keys import is_key

# obstore's own default is ten retries over three minutes: longer than any client waits.
RETRY = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}

PAGE = 100  # keys that are listed at once

Store = LocalStore | MemoryStore | S3Store | GCSStore | AzureStore


class ObjectStore:
    """Blobs by key. A key that `protocol.request.object_keys` cannot have made is a ValueError: a
    bug on our side.

    Raises `UnknownImage` for a key that holds nothing and `StoreUnavailable` for any other trouble.
    """

    def __init__(
        self, store: Any, observe: Observe = lambda *_: None, folder: Folder | None = None
    ) -> None:
        """`observe` is told how long each operation took. `folder`: where the store's files are, if
        they are on this machine."""
        self._store = store
        self._observe = observe
        self._folder = folder

    @classmethod
    def open(cls, url: str, observe: Observe = lambda *_: None) -> "ObjectStore":
        """A store by URL: `file:///folder` (made if missing), `s3://bucket/prefix`, `gs://…`, `az://…`,
        or `memory:///`, for one process only.

        Buckets take their credentials from the usual environment variables (AWS_ACCESS_KEY_ID,
        AWS_ENDPOINT, …).
        """
        match urlsplit(url).scheme:
            case "memory":
                return cls(MemoryStore(), observe)
            case "file":
                root = Path(unquote(urlsplit(url).path))
                store = LocalStore(root, mkdir=True, automatic_cleanup=True)
                return cls(store, observe, Folder(root))
            case _:
                bucket = from_url(url, retry_config=RETRY)  # type: ignore[call-overload]
                return cls(bucket, observe)

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write `data` under `key`; written twice is harmless, the last one stays."""
        with self._asked("put", key):
            if self._folder:
                self._folder.write(key, data)
            else:
                obstore.put(self._store, key, data, attributes={"Content-Type": content_type})

    def get(self, key: str) -> bytes:
        """The whole blob under `key`."""
        with self._asked("get", key):
            if self._folder:
                return self._folder.read(key)
            return bytes(obstore.get(self._store, key).bytes())

    def delete(self, key: str) -> None:
        """Remove `key`; removing what is not there is no error."""
        try:
            with self._asked("delete", key):
                obstore.delete(self._store, key)
        except UnknownImage:
            return

    def older_than(self, folder: str, moment: datetime) -> Iterator[list[str]]:
        """The keys below `folder` ("inputs" or "results") last written before `moment`, in pages.

        Whatever is not a key of ours is left out: it is none of our business.
        """
        with _store_errors(folder):
            for page in obstore.list(self._store, folder, chunk_size=PAGE):
                old = (found["path"] for found in page if found["last_modified"] < moment)
                yield [key for key in old if is_key(key)]

    def presign(self, key: str, expires_s: int) -> str | None:
        """A URL that lets anybody read `key` for `expires_s` seconds, where the store has such."""
        _checked(key)
        if isinstance(self._store, LocalStore | MemoryStore):
            return None
        with _store_errors(key):
            return obstore.sign(self._store, "GET", key, timedelta(seconds=expires_s))

    @contextmanager
    def _asked(self, operation: str, key: str) -> Iterator[None]:
        """Around one request to the store: its errors become ours, its time is told."""
        _checked(key)
        with observed(self._observe, operation, StoreUnavailable), _store_errors(key):
            yield


def _checked(key: str) -> str:
    if not is_key(key):
        raise ValueError(f"not an object key of ours: {key!r}")
    return key


@contextmanager
def _store_errors(key: str) -> Iterator[None]:
    """Turn what obstore raises inside the block into errors of ours, keeping the cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnknownImage(key) from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable from error
