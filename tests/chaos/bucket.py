"""A bucket with faults: an S3 server that keeps objects in memory and believes any signature.

It speaks as much of the protocol as our store uses (put, get, head, delete, list), so the programs
under test run their real client, with its retries and time-outs. Signatures are tested elsewhere,
against a server that checks them; here the question is what a store in trouble does to a job.
"""

import hashlib
import re
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar, Self
from xml.sax.saxutils import escape

NAME = "pictures"
OK, NO_CONTENT, NOT_FOUND, FULL, DOWN = 200, 204, 404, 507, 503
# Long ago, so that nothing is too young to be swept: only what Redis says keeps it.
MODIFIED, MODIFIED_IN_LISTS = "Sat, 01 Jan 2000 00:00:00 GMT", "2000-01-01T00:00:00.000Z"


class Bucket:
    """The objects by key, and what is wrong with the store at this moment.

    `slow_s` seconds pass before anything is done; `down` refuses everything, `full` all writes.
    `deaf_writes` of the next writes are carried out without an answer. `hold_write` makes a trap of
    the next write, as in `tests.chaos.proxy`.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.refused = 0  # requests
        self.slow_s = 0.0
        self.down = False
        self.full = False
        self.deaf_writes = 0
        self.holding: WriteTrap | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.bucket = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="bucket")

    @property
    def environment(self) -> Mapping[str, str]:
        """What a program needs to use it."""
        return {
            "OBJECT_STORE_URL": f"s3://{NAME}",
            "AWS_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "anybody",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_REGION": "nowhere",
        }

    def hold_write(self, carried_out: bool) -> "WriteTrap":
        """Stop the next write, before or after it is carried out."""
        self.holding = WriteTrap(carried_out)
        return self.holding

    def well_again(self) -> None:
        self.slow_s, self.down, self.full, self.deaf_writes = 0.0, False, False, 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.holding:
            self.holding.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class WriteTrap:
    """One write, stuck; `sprung` once it has come."""

    def __init__(self, carried_out: bool) -> None:
        self.carried_out = carried_out
        self.sprung = threading.Event()
        self.released = threading.Event()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    bucket: Bucket

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed in the middle of a sentence is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # obstore keeps its connections; a test that ends must not wait for them.
    timeout: ClassVar[float] = 30.0

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: the programs' own logs say what happened to them."""

    @property
    def bucket(self) -> Bucket:
        return self.server.bucket

    @property
    def key(self) -> str:
        path = urllib.parse.urlsplit(self.path).path
        return urllib.parse.unquote(path.removeprefix(f"/{NAME}").removeprefix("/"))

    def do_PUT(self) -> None:
        data = self._body()
        if self._in_trouble(writing=True):
            return
        trap, self.bucket.holding = self.bucket.holding, None
        if trap and not trap.carried_out:
            self._stick(trap)
            return
        self.bucket.objects[self.key] = data
        if trap:
            self._stick(trap)
        elif self.bucket.deaf_writes > 0:
            self.bucket.deaf_writes -= 1
            self.close_connection = True
        else:
            self._answer(OK, headers={"ETag": _etag(data)})

    def do_GET(self) -> None:
        if self._in_trouble():
            return
        if not self.key:
            self._answer(OK, self._listing())
        else:
            self._answer_object(with_body=True)

    def do_HEAD(self) -> None:
        if not self._in_trouble():
            self._answer_object(with_body=False)

    def do_DELETE(self) -> None:
        if not self._in_trouble():
            self.bucket.objects.pop(self.key, None)
            self._answer(NO_CONTENT)

    def do_POST(self) -> None:
        """Deletion of many at once, the only POST there is."""
        body = self._body()
        if self._in_trouble():
            return
        keys = [str(node.text) for node in ET.fromstring(body).iter() if node.tag.endswith("Key")]
        for key in keys:
            self.bucket.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer(OK, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _in_trouble(self, writing: bool = False) -> bool:
        time.sleep(self.bucket.slow_s)
        if self.bucket.down:
            self._answer(DOWN)
        elif self.bucket.full and writing:
            self._answer(FULL)
        else:
            return False
        self.bucket.refused += 1
        return True

    def _stick(self, trap: WriteTrap) -> None:
        trap.sprung.set()
        trap.released.wait()
        self.close_connection = True

    def _answer_object(self, with_body: bool) -> None:
        data = self.bucket.objects.get(self.key)
        if data is None:
            self._answer(NOT_FOUND)
            return
        headers = {"ETag": _etag(data), "Last-Modified": MODIFIED}
        status = OK
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
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
