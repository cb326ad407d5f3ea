"""A real S3-compatible server that verifies signatures: OpenStack Swift with its s3api.

with SwiftServer() as server:
    server.make_bucket("images")
    environment = server.environment()      # the variables of AWS clients, as ours

It listens on loopback. Four processes (proxy, account, container, object), forks of another, store
everything in their own folder, whose file system must support extended attributes.
"""

import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from os import getuid
from pathlib import Path
from typing import Self

import obstore
from obstore.store import S3Store

from darkroom.processes.parent_death import bound_to_parent
from tests.support.imports import ROOT
from tests.support.redis_server import free_port

START_TIMEOUT_S = 60.0
REGION = "us-east-1"
ACCESS_KEY = "darkroom:tester"  # Swift's form: account and user
SECRET_KEY = "a-secret-of-the-tests"
RINGS = ("account", "container", "object")
PROGRAM = "tests.protocol.storage.swift_processes"
# Each name is that of a Swift class; s3api verifies signatures.
PIPELINE = "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth copy slo dlo"
OPTIONS = {
    "s3api": f"s3_acl = false\nlocation = {REGION}",
    "tempauth": f"user_{ACCESS_KEY.replace(':', '_')} = {SECRET_KEY} .admin",
}


class SwiftServer:
    """One running server; its objects survive `stop` and `start`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="darkroom-swift-"))
        self.ports = {name: free_port() for name in ("proxy", *RINGS)}
        self.process: subprocess.Popen[bytes] | None = None
        (self.folder / "devices" / "disk").mkdir(parents=True)
        for name, text in self._configuration():
            (self.folder / name).write_text(text)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['proxy']}"

    def environment(self, secret: str = SECRET_KEY) -> dict[str, str]:
        """Return the environment variables of a client."""
        return {
            "AWS_ENDPOINT": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": secret,
        }

    def make_bucket(self, name: str) -> None:
        """Create a bucket by a signed PUT on it."""
        client = S3Store(
            name,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
        )
        url = obstore.sign(client, "PUT", "", timedelta(minutes=1))
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT")) as answer:
            assert answer.status == 200

    def start(self) -> None:
        """Start the four processes and wait until they answer."""
        servers = [f"{name}:{port}" for name, port in self.ports.items()]
        command = [sys.executable, "-m", PROGRAM, str(self.folder), *servers]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                bound_to_parent(command), cwd=ROOT, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        for port in self.ports.values():
            while not _answers(port):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"Swift did not start:\n{(self.folder / 'log').read_text()}")
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the processes; connections are then refused."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configuration(self) -> Iterator[tuple[str, str]]:
        """Yield each configuration file: its name and text."""
        yield "swift.conf", "[swift-hash]\nswift_hash_path_suffix = s\nswift_hash_path_prefix = p\n"
        for name in RINGS:
            application = f"[app:{name}-server]\nuse = egg:swift#{name}\n"
            yield f"{name}.conf", self._server(name, f"{name}-server") + application
        filters = "".join(
            f"[filter:{name}]\nuse = egg:swift#{name}\n{OPTIONS.get(name, '')}\n"
            for name in PIPELINE.split()
        )
        proxy = "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        yield "proxy.conf", self._server("proxy", f"{PIPELINE} proxy-server") + proxy + filters

    def _server(self, name: str, pipeline: str) -> str:
        return (
            "[DEFAULT]\nbind_ip = 127.0.0.1\nworkers = 0\nlog_level = WARNING\n"
            f"bind_port = {self.ports[name]}\nuser = {pwd.getpwuid(getuid()).pw_name}\n"
            f"swift_dir = {self.folder}\ndevices = {self.folder / 'devices'}\n"
            "mount_check = false\nfallocate_reserve = 0\n"
            f"[pipeline:main]\npipeline = {pipeline}\n"
        )


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=5).close()
    except urllib.error.HTTPError as error:  # an error is an answer, too
        error.close()
    except OSError:
        return False
    return True
