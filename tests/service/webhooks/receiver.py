"""A receiver of webhooks that verifies their signatures as Standard Webhooks says."""

import base64
import hashlib
import hmac
import json
import queue
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PATIENCE_S = 300.0


@dataclass(frozen=True)
class Call:
    """A call as it arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def json(self) -> Any:
        return json.loads(self.body)

    def verifies(self, secret: str) -> bool:
        """Return True if one of the signatures is that of `secret` over id, time and body."""
        right = signature(secret, self.id, self.headers["webhook-timestamp"], self.body)
        return right in self.headers["webhook-signature"].split(" ")


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a call, as Standard Webhooks defines it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{digest}"


class Receiver:
    """A web server on loopback; `statuses` are those of its next responses, then 204."""

    def __init__(self, *statuses: int) -> None:
        calls: queue.Queue[Call] = queue.Queue()
        self._calls, waiting = calls, list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the sender was killed: there was no call
                    return
                calls.put(Call({name.lower(): text for name, text in self.headers.items()}, body))
                self.send_response(waiting.pop(0) if waiting else 204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def next(self) -> Call:
        return self._calls.get(timeout=PATIENCE_S)

    @property
    def empty(self) -> bool:
        return self._calls.empty()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
