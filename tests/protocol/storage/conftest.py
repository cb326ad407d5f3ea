"""A bucket on a server that verifies signatures."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

BUCKET = "images"


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The environment variables of a bucket on a real server."""
    if sys.platform != "linux":
        pytest.skip("OpenStack Swift, the S3-compatible server of these tests, is for Linux")
    from tests.protocol.storage.swift_server import SwiftServer

    with SwiftServer() as server:
        server.make_bucket(BUCKET)
        yield server.environment()
