"""A bucket with faults: an S3 server that keeps objects in memory and accepts any signature.

It implements the part of the protocol that the object store uses (put, get, head, delete, list), so
the programs under test run their real client, with its retries and time-outs. Signatures are tested
elsewhere, against a server that checks them; here the effect of store faults on jobs is tested.
"""

import hashlib
import re
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self
from xml.sax.saxutils import escape

NAME = "images"
OK, NO_CONTENT, NOT_FOUND, FULL, DOWN = 200, 204, 404, 507, 503
# Old, so that no object is too new for the garbage collector: only records in Redis keep it.
MODIFIED, MODIFIED_IN_LISTS = "Sat, 01 Jan 2000 00:00:00 GMT", "2000-01-01T00:00:00.000Z"


class Bucket:
    """The objects by key, and the current faults of the store.

    Every request is delayed by `slow_s` seconds; `down` refuses all requests, `full` all writes.
    The next `unanswered_writes` writes are carried out without a response. `hold_write` holds the
    next write, as in `tests.chaos.proxy`.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refused = 0  # requests
        self.slow_s = 0.0
        self.down = False
        self.full = False
        self.unanswered_writes = 0
        self.holding: HeldWrite | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.bucket = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="bucket")

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables of a program that uses the bucket."""
        return {
            "OBJECT_STORE_URL": f"s3://{NAME}",
            "AWS_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "region",
        }

    def hold_write(self, carried_out: bool) -> "HeldWrite":
        """Hold the next write, before or after it is carried out."""
        self.holding = HeldWrite(carried_out)
        return self.holding

    def recover(self) -> None:
        self.slow_s, self.down, self.full, self.unanswered_writes = 0.0, False, False, 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.holding:
            self.holding.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class HeldWrite:
    """A write that is held until `released`; `arrived` is set when it arrives."""

    def __init__(self, carried_out: bool) -> None:
        self.carried_out = carried_out
        self.arrived = threading.Event()
        self.released = threading.Event()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    bucket: Bucket

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: clients are killed in the middle of a request on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # obstore keeps its connections open; the end of a test must not wait for them.
    timeout: ClassVar[float] = 30.0

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the programs under test have their own logs."""

    @property
    def bucket(self) -> Bucket:
        return self.server.bucket

    @property
    def key(self) -> str:
        path = urllib.parse.urlsplit(self.path).path
        return urllib.parse.unquote(path.removeprefix(f"/{NAME}").removeprefix("/"))

    def do_PUT(self) -> None:
        data = self._body()
        if self._refused(writing=True):
            return
        held, self.bucket.holding = self.bucket.holding, None
        if held and not held.carried_out:
            self._hold(held)
            return
        self.bucket.objects[self.key] = data
        if held:
            self._hold(held)
        elif self.bucket.unanswered_writes > 0:
            self.bucket.unanswered_writes -= 1
            self.close_connection = True
        else:
            self._answer(OK, headers={"ETag": _etag(data)})

    def do_GET(self) -> None:
        if self._refused():
            return
        if not self.key:
            self._answer(OK, self._listing())
        else:
            self._answer_object(with_body=True)

    def do_HEAD(self) -> None:
        if not self._refused():
            self._answer_object(with_body=False)

    def do_DELETE(self) -> None:
        if not self._refused():
            self.bucket.objects.pop(self.key, None)
            self._answer(NO_CONTENT)

    def do_POST(self) -> None:
        """Delete many objects at once, which is the only POST."""
        body = self._body()
        if self._refused():
            return
        keys = [str(node.text) for node in ET.fromstring(body).iter() if node.tag.endswith("Key")]
        for key in keys:
            self.bucket.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(OK, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _refused(self, writing: bool = False) -> bool:
        time.sleep(self.bucket.slow_s)
        if self.bucket.down:
            self._answer(DOWN)
        elif self.bucket.full and writing:
            self._answer(FULL)
        else:
            return False
        self.bucket.refused += 1
        return True

    def _hold(self, held: HeldWrite) -> None:
        held.arrived.set()
        held.released.wait()
        self.close_connection = True

    def _answer_object(self, with_body: bool) -> None:
        data = self.bucket.objects.get(self.key)
        if data is None:
            self._answer(NOT_FOUND)
            return
        headers = {"ETag": _etag(data), "Last-Modified": MODIFIED}
        status = OK
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if requested:
            first = int(requested[1])
            last = min(int(requested[2] or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        self._answer(status, data, headers, with_body)

    def _listing(self) -> bytes:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        prefix = query.get("prefix", [""])[0]
        found = sorted(key for key in self.bucket.objects.copy() if key.startswith(prefix))
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.bucket.objects[key])}</Size>"
            f"<LastModified>{MODIFIED_IN_LISTS}</LastModified></Contents>"
            for key in found
        )
        return f"<ListBucketResult>{entries}</ListBucketResult>".encode()

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        with_body: bool = True,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
