"""Measurement of the highest rate of accepted requests.

The client is `wrk` if it is installed, because it uses the least CPU time; otherwise it is an
asyncio client.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.common.client import Connection, post

PATH = "/v1/txt2img"
ACCEPTED = 202
ASYNC = "respond-async"


@dataclass(frozen=True)
class Flood:
    """Result: accepted requests a second, and the number of other responses."""

    client: str
    accepted_per_s: float
    others: int


async def flood(url: str, body: object, connections: int, seconds: float) -> Flood:
    """Post `body` repeatedly over `connections` connections, without waiting for images."""
    if wrk := shutil.which("wrk"):
        return await _flood_with_wrk(wrk, url, body, connections, seconds)
    return await _flood_with_asyncio(url, body, connections, seconds)


async def _flood_with_wrk(
    wrk: str, url: str, body: object, connections: int, seconds: float
) -> Flood:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_lua(json.dumps(body)))
        script.flush()
        process = await asyncio.create_subprocess_exec(
            wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", script.name,
            url + PATH, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed = (await process.communicate())[0].decode()
    others = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", printed)))
    done = re.search(r"(\d+) requests in ([\d.]+)s", printed)
    if done is None:
        raise RuntimeError(f"wrk printed: {printed}")
    return Flood(Path(wrk).name, (int(done[1]) - others) / float(done[2]), others)


def _lua(body: str) -> str:
    # A long bracket needs no escapes.
    return (
        f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n'
        f'wrk.headers["Content-Type"] = "application/json"\nwrk.headers["Prefer"] = "{ASYNC}"\n'
    )


async def _flood_with_asyncio(url: str, body: object, connections: int, seconds: float) -> Flood:
    request = post(urlsplit(url).hostname or "", PATH, body, ASYNC)
    accepted = others = 0
    started = time.perf_counter()

    async def one_connection() -> None:
        nonlocal accepted, others
        async with Connection(url) as connection:
            while time.perf_counter() < started + seconds:
                if (await connection.send(request)).status == ACCEPTED:
                    accepted += 1
                else:
                    others += 1

    await asyncio.gather(*(one_connection() for _ in range(connections)))
    return Flood("asyncio", accepted / (time.perf_counter() - started), others)
