"""The object store of images: a folder, memory or a bucket, by URL.

The only file that imports obstore. Its synchronous functions are used, from threads: the
asynchronous ones sometimes abort the process at exit.
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
from protocol.startup import check_writable_folder, invalid_setting

# obstore's own default is ten retries over three minutes: longer than any client waits.
RETRY = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}

VARIABLE = "OBJECT_STORE_URL"

PAGE = 100  # keys that are listed at once

Store = LocalStore | MemoryStore | S3Store | GCSStore | AzureStore


class ObjectStore:
    """Objects by key.

    Raises `UnknownImage` for a missing object and `StoreUnavailable` for any other error. A key
    that `protocol.request.object_keys` cannot have made is a bug: ValueError.
    """

    def __init__(
        self, store: Any, observe: Observe = lambda *_: None, folder: Folder | None = None
    ) -> None:
        """`observe` is called with the duration of each operation. `folder`: that of the store's
        files, if they are on this machine."""
        self._store = store
        self._observe = observe
        self._folder = folder

    @classmethod
    def open(cls, url: str, observe: Observe = lambda *_: None) -> "ObjectStore":
        """Open a store by URL: `file:///folder` (created if missing), `s3://bucket/prefix`, `gs://…`,
        `az://…`, or `memory:///`, for one process only.

        Buckets take their credentials from the usual environment variables (AWS_ACCESS_KEY_ID,
        AWS_ENDPOINT, …). Raises InvalidSettings if they or the URL cannot be used.
        """
        match urlsplit(url).scheme:
            case "memory":
                return cls(MemoryStore(), observe)
            case "file":
                root = Path(unquote(urlsplit(url).path))
                check_writable_folder(VARIABLE, root)
                store = LocalStore(root, automatic_cleanup=True)
                return cls(store, observe, Folder(root))
            case _:
                return cls(_bucket(url), observe)

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write `data` under `key`, replacing what is there."""
        with self._measured("put", key):
            if self._folder:
                self._folder.write(key, data)
            else:
                obstore.put(self._store, key, data, attributes={"Content-Type": content_type})

    def get(self, key: str) -> bytes:
        """Return the object under `key`."""
        with self._measured("get", key):
            if self._folder:
                return self._folder.read(key)
            return bytes(obstore.get(self._store, key).bytes())

    def delete(self, key: str) -> None:
        """Delete `key`; a missing object is no error."""
        try:
            with self._measured("delete", key):
                obstore.delete(self._store, key)
        except UnknownImage:
            return

    def has(self, key: str) -> bool:
        """Return True if there is an object under `key`."""
        try:
            with self._measured("head", key):
                obstore.head(self._store, key)
        except UnknownImage:
            return False
        return True

    def results_of(self, job_id: str) -> list[str]:
        """Return the keys of the results of a job."""
        folder = f"results/{job_id}"
        with _store_errors(folder):
            found = obstore.list(self._store, folder).collect()
        return [one["path"] for one in found if is_key(one["path"])]

    def older_than(self, folder: str, moment: datetime) -> Iterator[list[str]]:
        """Yield the keys below "inputs", "results" or "uploads" written before `moment`, in pages.

        Objects of other programs, whose keys have another form, are left out.
        """
        with _store_errors(folder):
            for page in obstore.list(self._store, folder, chunk_size=PAGE):
                old = (found["path"] for found in page if found["last_modified"] < moment)
                yield [key for key in old if is_key(key)]

    def presign(self, key: str, expires_s: int) -> str | None:
        """Return a URL to read `key` without credentials for `expires_s` seconds.

        None if the store has no such URLs.
        """
        _checked(key)
        if isinstance(self._store, LocalStore | MemoryStore):
            return None
        with _store_errors(key):
            return obstore.sign(self._store, "GET", key, timedelta(seconds=expires_s))

    @contextmanager
    def _measured(self, operation: str, key: str) -> Iterator[None]:
        """Measure one operation on the store and convert its errors."""
        _checked(key)
        with observed(self._observe, operation, StoreUnavailable), _store_errors(key):
            yield


def check_store(url: str) -> None:
    """Raise InvalidSettings unless the store can be opened, and shared with other processes."""
    if urlsplit(url).scheme == "memory":
        raise invalid_setting(VARIABLE, url, "a store that the API and its workers can share")
    ObjectStore.open(url)


def _bucket(url: str) -> Store:
    try:
        return from_url(url, retry_config=RETRY)  # type: ignore[call-overload]
    except (BaseError, ValueError) as error:
        # The first line is the reason; the rest is the state of obstore, perhaps with credentials.
        reason = str(error).partition("\n")[0]
        raise invalid_setting(VARIABLE, url, f"a bucket that can be used ({reason})") from None


def _checked(key: str) -> str:
    if not is_key(key):
        raise ValueError(f"not an object key of ours: {key!r}")
    return key


@contextmanager
def _store_errors(key: str) -> Iterator[None]:
    """Convert obstore's errors inside the block into ours, keeping the cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnknownImage(key) from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable from error
