"""A model hub on loopback: an HTTP server with the URLs of the Hugging Face hub.

GET  /api/models/<id>[/revision/<rev>]        the files and their commit
GET  /api/models/<id>/tree/<rev>              the files, with sizes
HEAD, GET  /<id>/resolve/<rev>/<file>         small files; large ones by redirect, with ranges
GET  /cdn/<id>/<file>                         the target of those redirects
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1 << 16  # from this size on a file is served like a git-lfs file of the real hub


@dataclass
class Repository:
    """Files by name; a gated repository refuses downloads."""

    files: dict[str, bytes]
    gated: bool = False


@dataclass
class Hub:
    """Repositories by id, the one valid token, and the requests received."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    token: str = "hf_good"
    cut_next: int | None = None  # bytes after which the next large download breaks off
    held: threading.Event = field(default_factory=threading.Event)
    holds: str | None = None  # the repository whose large downloads wait until `held` is set
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""
    cdn: str = ""

    def downloads(self, name: str) -> list[str | None]:
        """Return the ranges in which a file was fetched, None for the whole file."""
        return [
            range_
            for method, path, range_ in self.requests
            if method == "GET" and path.endswith(f"/{name}") and "/api/" not in path
        ]


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` at `hub.url`."""
    with _server(hub) as hub.url, _server(hub) as hub.cdn:
        yield hub


@contextmanager
def _server(hub: Hub) -> Iterator[str]:
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Do not print requests: `Hub.requests` records them."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            if match[1] == self.hub.holds:
                self.hub.held.wait()
            # As in the real hub, the address alone grants access.
            self._send_file(self.hub.repositories[match[1]].files[match[2]])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/.+)?", path):
            if repository := self._allowed(match[1], listing=True):
                self._send_listing(match[1], repository, tree=match[2] == "tree")
        elif (match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)) and (
            repository := self._allowed(match[1], listing=False)
        ):
            self._resolve(match[1], match[2], repository)

    def _allowed(self, name: str, *, listing: bool) -> Repository | None:
        """Return the repository, or None after a refusal with the real hub's messages."""
        given = self.headers.get("Authorization")
        if given is not None and given != f"Bearer {self.hub.token}":
            self._refuse(401, None, "Invalid credentials in Authorization header")
            return None
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._refuse(401 if given is None else 404, "RepoNotFound", "Repository not found")
            return None
        if repository.gated and not listing:
            self._refuse(403, "GatedRepo", "Access to this model is restricted")
            return None
        return repository

    def _refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _send_listing(self, name: str, repository: Repository, *, tree: bool) -> None:
        if tree:
            body: Any = [
                {"type": "file", "path": path, "size": len(raw), "oid": _etag(raw)[:40]}
                for path, raw in repository.files.items()
            ]
        else:
            files = [{"rfilename": path} for path in repository.files]
            body = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "tags": []}
            body |= {"private": False, "gated": "manual" if repository.gated else False}
        self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, file: str, repository: Repository) -> None:
        raw = repository.files.get(file)
        if raw is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(raw)}"', "Accept-Ranges": "bytes"}
        if len(raw) < LARGE:
            self._send(200, raw, headers)
            return
        linked = {"X-Linked-Size": str(len(raw)), "X-Linked-ETag": f'"{_etag(raw)}"'}
        location = f"{self.hub.cdn}/cdn/{name}/{file}"
        self._send(302, b"", {**headers, **linked, "Location": location})

    def _send_file(self, raw: bytes) -> None:
        begin = 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            begin = int(match[1])
        headers = {"ETag": f'"{_etag(raw)}"', "Accept-Ranges": "bytes"}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(raw) - 1}/{len(raw)}"
        self._send(206 if begin else 200, raw[begin:], headers)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut, self.hub.cut_next = self.hub.cut_next, None
        if cut is not None and len(body) > cut:
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        if cut is not None:
            self.hub.cut_next = cut
        self.wfile.write(body)


def _etag(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
