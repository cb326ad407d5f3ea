"""Hostile requests to a real `darkroom api` process.

No response has a 5xx status or shows internals, memory stays bounded, and the service keeps
working. What is accepted matches the OpenAPI description. The requests are in the files of
`hostile/`.
"""

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from protocol.request.model_card import UpscalerInfo
from protocol.storage.object_store import ObjectStore
from tests.service.conftest import ABLE, word_tokenizer
from tests.service.description import body_validators, description_of
from tests.service.fake_worker import FakeWorker
from tests.service.hostile.fuzz import PATHS, forms, json_bodies
from tests.service.hostile.input_files import input_files
from tests.service.sample_images import (
    gradient,
    in_base64,
    packed,
    png_chunk,
    profile,
    with_chunks,
    with_segments,
)
from tests.support.redis_server import RedisServer, free_port

FOLDER = Path(__file__).parent / "hostile"
JSON = b"Content-Type: application/json"
LINES = ("bodies", "forms", "heads", "paths", "raw")
MEBIBYTE = 2**20
REFUSED_OR_NOT = frozenset({202, 400, 413, 422})
GROWTH = 112 * MEBIBYTE  # at the bounds set here; 67 were measured
INTERNALS = re.compile(
    rb"Traceback|0x[0-9a-f]{6}|site-packages|/worker/|/service/|pydantic|PIL|errors\.|\.py|root:"
)
BODIES = body_validators(description_of())
SERVED = ABLE.model_copy(
    update={
        "loras": ("x",),
        "controlnets": ("canny",),
        "upscalers": (UpscalerInfo(name="2x", scale=2),),
        "max_clip_skip": 1,
    }
)
ENVIRONMENT = {
    "DARKROOM_MAX_BODY_BYTES": str(4 * MEBIBYTE),
    "DARKROOM_MAX_BODIES_BYTES": str(32 * MEBIBYTE),
    "DARKROOM_MAX_IMAGE_PIXELS": str(2**20),
    "DARKROOM_MAX_QUEUE_LENGTH": "100000",
    "DARKROOM_MAX_QUEUE_PER_CLIENT": "100000",
    "DARKROOM_HEADER_TIMEOUT_S": "1",
    "DARKROOM_UPLOAD_SILENCE_S": "3",
    "DARKROOM_KEEP_ALIVE_S": "2",
}


@dataclass(frozen=True)
class Case:
    """One request as bytes, and its allowed statuses."""

    name: str
    data: bytes
    status: frozenset[int]

    def is_described(self) -> bool:
        """Return True if its JSON body matches the OpenAPI description.

        Forms are not compared, nor what is sent in several chunks or requests.
        """
        head, _, body = self.data.partition(b"\r\n\r\n")
        if JSON not in head or b"Content-Length: %d" % len(body) not in head:
            return True
        path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
        return BODIES[path].is_valid(json.loads(body))


@dataclass
class Api:
    """The tested process, and its memory at rest and at most (resident, in bytes)."""

    port: int
    process: psutil.Process
    log: Path
    at_rest: int = 0
    at_most: int = 0

    def watch(self, until: threading.Event) -> None:
        while not until.wait(0.02):
            self.at_most = max(self.at_most, self.process.memory_info().rss)

    def send(self, data: bytes) -> bytes:
        """Send `data` and return all bytes received until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            received = b""
            try:
                connection.sendall(data)
                while chunk := connection.recv(65536):
                    received += chunk
            except (ConnectionResetError, BrokenPipeError):
                pass  # cut off while sending, which is allowed
            return received

    def alive(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/v1/txt2img"
        return httpx.post(url, json={"prompt": "x"}, timeout=60).status_code == 200


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("images").as_uri()
    log = tmp_path_factory.mktemp("log") / "api"
    with RedisServer() as server:
        port = free_port()
        own = {"REDIS_URL": server.url, "OBJECT_STORE_URL": folder, "PORT": str(port)}
        command = [sys.executable, "-m", "darkroom", "api"]
        stop = threading.Event()
        with (
            FakeWorker(server.url, ObjectStore.open(folder), SERVED, word_tokenizer()),
            log.open("wb") as output,
            subprocess.Popen(
                command, env={**os.environ, **ENVIRONMENT, **own}, stderr=output, stdout=output
            ) as process,
        ):
            api = Api(port, psutil.Process(process.pid), log)
            _wait_until_up(api)
            for _ in range(5):  # load all that is loaded lazily
                assert api.alive()
                api.send(_image_request("image", packed(gradient())))
            api.at_rest = api.at_most = api.process.memory_info().rss
            watching = threading.Thread(target=api.watch, args=(stop,))
            watching.start()
            try:
                yield api
            finally:
                stop.set()
                watching.join()
                process.terminate()


def _wait_until_up(api: Api) -> None:
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{api.port}/healthz", timeout=60)
        except httpx.TransportError:
            assert api.process.is_running()
            time.sleep(0.05)
        else:
            return


def _bytes(parts: Any) -> bytes:
    if isinstance(parts, str):
        return parts.encode("latin-1")
    if isinstance(parts, dict):
        return _bytes(parts["repeat"]) * int(parts["times"])
    return b"".join(map(_bytes, parts))


def _request(
    body: bytes, headers: list[bytes], method: str = "POST", path: bytes = b"/v1/txt2img"
) -> bytes:
    if not any(header.lower().startswith(b"host:") for header in headers):
        headers = [b"Host: localhost", *headers]
    if not any(header.lower().startswith(b"prefer:") for header in headers):
        headers = [*headers, b"Prefer: respond-async"]
    lines = [method.encode() + b" " + path + b" HTTP/1.1", *headers, b"Connection: close"]
    if method == "POST":
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _image_request(field: str, data: bytes) -> bytes:
    fields = {"prompt": "x", "image": in_base64(packed(gradient())), field: in_base64(data)}
    path = b"/v1/inpaint" if field == "mask" else b"/v1/img2img"
    return _request(json.dumps(fields).encode(), [JSON], path=path)


def _case(line: dict[str, Any]) -> Case:
    status = line["status"] if isinstance(line["status"], list) else [line["status"]]
    if "raw" in line:
        data = _bytes(line["raw"])
    else:
        headers = [
            _bytes(header) for header in line.get("headers", ["Content-Type: application/json"])
        ]
        path = _bytes(line.get("path", "/v1/txt2img"))
        data = _request(_bytes(line.get("body", "")), headers, line.get("method", "POST"), path)
    return Case(line["name"], data, frozenset(status))


def cases_of(name: str) -> list[Case]:
    return [_case(json.loads(line)) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def cases_of_fields() -> list[Case]:
    data = json.loads((FOLDER / "fields.json").read_text())
    return [
        Case(
            f"{field}: {json.dumps(value)}",
            _request(json.dumps({"prompt": "x", field: value}).encode(), [JSON]),
            frozenset({202, 422}),
        )
        for field in data["fields"]
        for value in data["values"]
    ]


def png_of(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def images() -> dict[str, bytes]:
    """Return files that are invalid images or contain more than an image."""
    good, jpeg, webp = (packed(gradient(), kind) for kind in ("PNG", "JPEG", "WEBP"))
    rows = zlib.compress(bytes(3 * MEBIBYTE), 9)
    bomb = zlib.compress(bytes(64 * MEBIBYTE), 9)
    files = {
        "30,000 x 30,000": png_of(30_000, 30_000, rows=rows),
        "2^31 x 2^31": png_of(2**31 - 1, 2**31 - 1, rows=rows),
        "a line a million wide": png_of(2**20, 1, rows=rows),
        "a column a million high": png_of(1, 2**20, rows=rows),
        "no width": png_of(0, 64, rows=rows),
        "just the pixels there may be": png_of(1024, 1024, rows=rows),
        "one pixel too many": png_of(1024, 1025, rows=rows),
        "16 bits of each": png_of(512, 512, depth=16, rows=zlib.compress(bytes(512 * 3073))),
        "a depth of 7": png_of(64, 64, depth=7, rows=rows),
        "a colour type of 9": png_of(64, 64, colour=9, rows=rows),
        "a palette without one": png_of(64, 64, colour=3, rows=rows),
        "rows that unpack to 64 MB": png_of(64, 64, rows=bomb),
        "rows that are no zlib": png_of(64, 64, rows=b"x" * 1000),
        "a text that unpacks to 64 MB": with_chunks(good, png_chunk(b"zTXt", b"a\0\0" + bomb)),
        "fifty such texts": with_chunks(good, *[png_chunk(b"zTXt", b"a\0\0" + bomb)] * 50),
        "such an international text": with_chunks(good, png_chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)),
        "a profile that unpacks to 64 MB": with_chunks(good, png_chunk(b"iCCP", b"a\0\0" + bomb)),
        "a hundred thousand chunks": with_chunks(good, png_chunk(b"prVt", b"") * 100_000),
        "a chunk longer than the file": with_chunks(good, b"\xff\xff\xff\xffIDATxxxx"),
        "a chunk of negative length": with_chunks(good, b"\x80\0\0\0tEXtxxxx"),
        "a wrong check sum": good[:29] + b"xxxx" + good[33:],
        "an animation without frames": with_chunks(good, png_chunk(b"acTL", b"\xff" * 8)),
        "only a signature": good[:8],
        "a million signatures": good[:8] * 100_000,
        "a JPEG of only a head": jpeg[:2],
        "a JPEG without scans": jpeg[: jpeg.index(b"\xff\xda")],
        "a JPEG of markers": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 500_000,
        "a JPEG of 0xff": b"\xff\xd8" + b"\xff" * 2_000_000,
        "a JPEG of 65,500 x 65,500": jpeg.replace(b"\x00\x40\x00\x40\x03", b"\xff\xdc\xff\xdc\x03"),
        "a JPEG of ten thousand scans": packed(gradient(), "JPEG", progressive=True)[:-2]
        + b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00" * 10_000,
        "EXIF that points at itself": with_segments(
            jpeg, b"\xe1Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\0\0\0\1\0\x06\0\0" * 900
        ),
        "EXIF that points outside": with_segments(jpeg, b"\xe1Exif\0\0II*\0\xff\xff\xff\x7f"),
        "a profile that is junk": packed(gradient(), icc_profile=b"junk" * 1000),
        "a profile cut short": packed(gradient(), icc_profile=profile()[:150]),
        "a WebP of only a head": webp[:12],
        "a WebP cut short": webp[:-20],
        "a WebP that says it is larger": webp[:4] + b"\xff\xff\xff\x7f" + webp[8:],
        "a WebP of 16,383 x 16,383": b"RIFF\x26\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0"
        + b"\xfe\x3f\0\xfe\x3f\0VP8L\x0c\0\0\0\x2f\xfe\xbf\xff\x0f"
        + bytes(8),
        "an animated WebP": packed(
            gradient(), "WEBP", save_all=True, append_images=[gradient()] * 9
        ),
        "an image and a page": good + b"<html><script>alert(1)</script>",
        "an image and an archive": good + b"PK\x03\x04" + bytes(1000),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "MVG": b"push graphic-context\nfill 'url(https://127.0.0.1/x\"|true\")'\n",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n",
        "FITS": b"SIMPLE  =                    T".ljust(2880) + bytes(1000),
        "PSD": b"8BPS\0\1" + bytes(6) + b"\0\3\xff\xff\xff\xff\xff\xff\xff\xff\0\x08\0\3",
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(100),
        "a pickle": b"\x80\x04\x95" + bytes(100),
        "an archive": b"PK\x03\x04" + bytes(100),
        "gzip": zlib.compress(good),
    }
    others = {
        f"a {kind}": packed(gradient(), kind) for kind in ("GIF", "BMP", "TIFF", "ICO", "PPM")
    }
    modes = {
        f"{kind} of mode {mode}": packed(Image.new(mode, (64, 64)), kind)
        for kind, mode in (
            ("PNG", "1"),
            ("PNG", "LA"),
            ("PNG", "P"),
            ("PNG", "I;16"),
            ("JPEG", "CMYK"),
        )
    }
    return files | others | modes


def cases_of_images() -> list[Case]:
    return [
        Case(f"{name} as {field}", _image_request(field, data), frozenset({202, 413, 422}))
        for name, data in (images() | input_files()).items()
        for field in ("image", "mask")
    ]


def wrong(api: Api, case: Case) -> str | None:
    """Return a description of what is wrong with the response to `case`, or None."""
    response = api.send(case.data)
    status = int(response[9:12]) if response.startswith(b"HTTP/1.") else 0
    head, _, body = response.partition(b"\r\n\r\n")
    if status not in case.status:
        return f"{case.name}: {status} {body[:200]!r}"
    if status in (200, 202) and not case.is_described():
        return f"{case.name}: {status}, but the description does not allow it"
    if b"but must be as documented" in body:
        return f"{case.name}: has no bound: {body[:300]!r}"
    if status >= 400 and (INTERNALS.search(body) or len(body) > 2000):
        return f"{case.name}: shows internals: {body[:300]!r}"
    if re.search(rb"(?im)^set-cookie|^x-injected|server:", head):
        return f"{case.name}: has unexpected headers: {head!r}"
    return None


CORPUS = {name: cases_of(name) for name in LINES} | {
    "fields": cases_of_fields(),
    "images": cases_of_images(),
}


def test_the_corpus_is_large_and_varied() -> None:
    assert sum(map(len, CORPUS.values())) >= 200
    assert sum(len(CORPUS[name]) for name in LINES) >= 200
    for cases in CORPUS.values():
        assert len({case.data for case in cases}) > 0.9 * len(cases)


@pytest.mark.parametrize("name", CORPUS)
def test_hostile_requests_get_an_expected_status(api: Api, name: str) -> None:
    with ThreadPoolExecutor(4) as clients:
        errors = [*filter(None, clients.map(lambda case: wrong(api, case), CORPUS[name]))]
    assert errors == []
    assert api.alive()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=50)
    | st.from_regex(r"(\.\.|%2e%2e|%00|/|\\|[0-9a-f]{1,40}){1,8}", fullmatch=True)
    | st.binary(max_size=50).map(lambda data: data.decode("latin-1"))
)
def test_invalid_job_id_is_rejected(api: Api, text: str) -> None:
    for template in ("/v1/jobs/{}", "/v1/jobs/{}/events", "/v1/jobs/" + "0" * 32 + "/images/{}"):
        for quoted in (httpx.URL("/", params={"q": text}).query.partition(b"=")[2], text.encode()):
            if re.search(rb"[\x00-\x20\x7f-\xff#?]", quoted):
                continue
            path = template.encode().replace(b"{}", quoted)
            response = api.send(_request(b"", [], "GET", path))
            status = response[9:12]
            assert status in (b"404", b"422", b"405", b"400"), (path, response[:300])
            assert not INTERNALS.search(response)


FUZZ = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
FUZZED_PATHS = st.sampled_from(PATHS)
FORM = b"Content-Type: multipart/form-data; boundary=b"


@FUZZ
@given(FUZZED_PATHS, json_bodies())
def test_json_that_is_nearly_right_is_accepted_or_refused(
    api: Api, path: bytes, body: bytes
) -> None:
    case = Case("JSON", _request(body, [JSON], path=path), REFUSED_OR_NOT)
    assert wrong(api, case) is None


@FUZZ
@given(FUZZED_PATHS, forms())
def test_form_that_is_nearly_right_is_accepted_or_refused(
    api: Api, path: bytes, body: bytes
) -> None:
    case = Case("form", _request(body, [FORM], path=path), REFUSED_OR_NOT)
    assert wrong(api, case) is None


def test_no_request_caused_a_traceback(api: Api) -> None:
    """Runs after the requests above: an error that nobody expected is in the log."""
    assert "Traceback" not in api.log.read_text()


def test_memory_stays_bounded_and_the_service_works(api: Api) -> None:
    """Runs last in this file: checks the largest memory during all tests above."""
    assert api.alive()
    print(f"{api.at_rest / MEBIBYTE:.0f} MiB at rest, {api.at_most / MEBIBYTE:.0f} at most")
    assert api.at_most - api.at_rest < GROWTH


def test_no_file_was_created() -> None:
    assert not [*Path("/tmp").glob("canary*")]
