"""POST /v1/read: the digital source type and the content credentials in an image file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import c2pa
import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL.PngImagePlugin import PngInfo

from protocol.recipes.provenance import DEVELOPMENT, DigitalSource
from protocol.request.object_keys import OutputFormat
from service.recipes import credentials as reading
from service.recipes.credentials import CredentialsStatus, read_credentials
from service.recipes.provenance import read_provenance
from tests.service.conftest import running
from tests.service.routes.test_read import read, saved
from tests.support.redis_server import RedisServer
from tests.support.signing import credentials
from worker.output.content_credentials import ContentCredentials

FORMATS = [kind.name for kind in OutputFormat]
OTHER = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
ATTRIBUTE = f'<rdf:Description Iptc4xmpExt:DigitalSourceType="{OTHER}"/>'
ELEMENT = f"<Iptc4xmpExt:DigitalSourceType>{OTHER}</Iptc4xmpExt:DigitalSourceType>"
RESOURCE = f'<Iptc4xmpExt:DigitalSourceType\n rdf:resource="{OTHER}"/>'


@pytest.fixture(scope="module")
def client(redis_server: RedisServer) -> Iterator[httpx.Client]:
    with running(redis_server.url) as service:
        yield service.client


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ContentCredentials:
    return credentials(tmp_path_factory.mktemp("certificate"))


def signed(signer: ContentCredentials, kind: str) -> bytes:
    return signer.sign(saved(kind), OutputFormat[kind], DigitalSource.EDITED)


def with_xmp(kind: str, packet: str) -> bytes:
    if kind != "PNG":
        return saved(kind, xmp=packet.encode())
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet)
    return saved("PNG", pnginfo=info)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("packet", [ATTRIBUTE, ELEMENT, RESOURCE])
def test_digital_source_type_of_the_xmp_is_told(
    client: httpx.Client, kind: str, packet: str
) -> None:
    found = read(client, with_xmp(kind, packet))
    assert found["digital_source_type"] == OTHER
    assert found["texts"] == {"XML:com.adobe.xmp": packet}
    assert "content_credentials" not in found


@pytest.mark.parametrize(
    "packet", ["", "DigitalSourceType", f"<x>{OTHER}</x>", f"DigitalSourceType{' ' * 101}{OTHER}"]
)
def test_other_xmp_has_no_digital_source_type(client: httpx.Client, packet: str) -> None:
    assert "digital_source_type" not in read(client, with_xmp("PNG", packet))


@pytest.mark.parametrize("kind", FORMATS)
def test_valid_credentials_are_told(
    client: httpx.Client, signer: ContentCredentials, kind: str
) -> None:
    found = read(client, signed(signer, kind))
    assert found["digital_source_type"] == DigitalSource.EDITED
    told = found["content_credentials"]
    assert told.pop("generator").startswith("Darkroom")
    assert told == {"status": "valid", "issuer": DEVELOPMENT, "failures": []}


def test_changed_file_has_invalid_credentials(
    client: httpx.Client, signer: ContentCredentials
) -> None:
    file = bytearray(signed(signer, "JPEG"))
    file[-3] ^= 1
    found = read(client, bytes(file))
    assert found["content_credentials"]["status"] == "invalid"
    assert found["content_credentials"]["failures"] == ["assertion.dataHash.mismatch"]
    assert "digital_source_type" not in found


@pytest.mark.parametrize("content", [b"", b"x" * 1000, b"\xff" * 70_000])
def test_broken_manifest_is_invalid(client: httpx.Client, content: bytes) -> None:
    chunk = struct.pack(">I", len(content)) + b"caBX" + content
    chunk += struct.pack(">I", zlib.crc32(b"caBX" + content))
    file = saved("PNG")
    found = read(client, file[:33] + chunk + file[33:])
    assert found["content_credentials"]["status"] == "invalid"


@given(places=st.lists(st.integers(100, 3000), min_size=1, max_size=9), byte=st.integers(1, 255))
@hypothesis_settings(max_examples=8, deadline=None)
def test_any_change_of_a_manifest_is_read_without_an_error(
    signer: ContentCredentials, places: list[int], byte: int
) -> None:
    file = bytearray(signed(signer, "PNG"))
    for place in places:
        file[place] ^= byte
    found = read_credentials("image", bytes(file))
    assert found is not None
    assert found.status in (CredentialsStatus.VALID, CredentialsStatus.INVALID)


@pytest.mark.parametrize(
    ("name", "value"), [("CHILD_BYTES", -(10**6)), ("CHILD_TIMEOUT_S", 0), ("CHILD_CPU_S", 0)]
)
def test_credentials_beyond_the_limits_are_unchecked(
    signer: ContentCredentials, name: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, name, value)
    found = read_provenance("image", signed(signer, "PNG"), {})
    assert found.credentials == reading.Credentials(CredentialsStatus.UNCHECKED)
    assert found.digital_source_type is None


def test_credentials_are_unchecked_without_the_package(
    signer: ContentCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    for kind in FORMATS:
        found = read_credentials("image", signed(signer, kind))
        assert found == reading.Credentials(CredentialsStatus.UNCHECKED)
        assert read_credentials("image", saved(kind)) is None


def test_manifest_elsewhere_is_not_fetched(
    client: httpx.Client, signer: ContentCredentials
) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: Any) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/manifest"
        file = io.BytesIO()
        with c2pa.Builder({"format": "image/png"}, context=signer._context) as builder:
            builder.set_remote_url(url)
            builder.set_no_embed()
            builder.sign("image/png", io.BytesIO(saved("PNG")), file)
        # The library fetches it by default.
        with pytest.raises(c2pa.C2paError):
            c2pa.Reader("image/png", io.BytesIO(file.getvalue()))
        assert asked == ["/manifest"]
        found = read(client, file.getvalue())
        server.shutdown()
    assert url in found["texts"]["XML:com.adobe.xmp"]
    assert asked == ["/manifest"]
