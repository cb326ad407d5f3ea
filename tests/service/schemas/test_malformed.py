"""Malformed requests: each gets its own 4xx problem with the field, and the service goes on."""

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as default

import httpx
import pytest
from PIL import Image

from tests.service.conftest import ABLE, MAX_BODY_BYTES, Running, running
from tests.service.sample_images import gradient, in_base64, left_half_white, packed
from tests.support.redis_server import RedisServer

JSON = {"Content-Type": "application/json"}
SECRET = "a-canary-prompt"


def png_header(width: int, height: int) -> bytes:
    """Return a PNG with a large size in its header and little data: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


IMAGE = in_base64(packed(gradient()))
MASK = in_base64(packed(left_half_white()))
BOMB = in_base64(png_header(30000, 30000))
LARGE = in_base64(packed(gradient(200, 64)))
SMALL = in_base64(packed(Image.new("L", (50, 50))))
BOXED = {"boxes": [{"class": 1, "x": 0, "y": 0, "width": 1, "height": 1}]}


@dataclass(frozen=True)
class Malformed:
    """A malformed request and its expected problem."""

    name: str
    status: int
    problem: str
    field: str | None
    path: str = "/v1/txt2img"
    fields: dict[str, object] = default(default_factory=dict)
    send: Callable[[httpx.Client], httpx.Response] | None = None

    def sent_by(self, client: httpx.Client) -> httpx.Response:
        if self.send is not None:
            return self.send(client)
        body = json.dumps({"prompt": SECRET, **self.fields})
        return client.post(self.path, content=body, headers=JSON)


def wrong(name: str, status: int, problem: str, field: str, **fields: object) -> Malformed:
    return Malformed(name, status, problem, field, fields=fields)


def wrong_image(name: str, problem: str, field: str = "image", **fields: object) -> Malformed:
    return Malformed(name, 422, problem, field, "/v1/img2img", {"image": IMAGE, **fields})


def wrong_mask(name: str, problem: str, field: str = "mask", **fields: object) -> Malformed:
    body = {"image": IMAGE, "mask": MASK, **fields}
    return Malformed(name, 422, problem, field, "/v1/inpaint", body)


def wrong_task(task: str, name: str, problem: str, field: str, **fields: object) -> Malformed:
    body = json.dumps(fields)
    return Malformed(
        f"{task}: {name}",
        422,
        problem,
        field,
        send=lambda client: client.post(f"/v1/{task}", content=body, headers=JSON),
    )


def wrong_box(name: str, problem: str, field: str, **changes: object) -> Malformed:
    box = {"class": 1, "x": 0, "y": 0, "width": 0.5, "height": 1} | changes
    return wrong_task("layout", name, problem, f"boxes.0.{field}", boxes=[box])


def labels(value: int, mode: str = "L", kind: str = "PNG") -> str:
    return in_base64(packed(Image.new(mode, (64, 64), value), kind))


def wrong_body(name: str, status: int, problem: str, field: str, content: bytes) -> Malformed:
    return Malformed(
        name,
        status,
        problem,
        field,
        send=lambda client: client.post("/v1/txt2img", content=content, headers=JSON),
    )


def wrong_form(name: str, status: int, problem: str, field: str, **parts: object) -> Malformed:
    return Malformed(
        name,
        status,
        problem,
        field,
        send=lambda client: client.post("/v1/txt2img", files=parts),  # type: ignore[arg-type]
    )


def wrong_headers(name: str, field: str, **headers: str) -> Malformed:
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    return Malformed(
        name,
        415,
        "unsupported-media-type",
        field,
        send=lambda client: client.post("/v1/txt2img", content=b'{"prompt":""}', headers=given),
    )


def wrong_path(name: str, status: int, problem: str, field: str | None, path: str) -> Malformed:
    return Malformed(name, status, problem, field, send=lambda client: client.get(path))


def endless(client: httpx.Client) -> httpx.Response:
    """Send a body in chunks, without a length."""
    chunks = (b" " * 65536 for _ in range(2 * MAX_BODY_BYTES // 65536))
    return client.post("/v1/txt2img", content=chunks, headers=JSON)


UNKNOWN_JOB = "0" * 32
REQUESTS = [
    # The fields of every task.
    Malformed(
        "no prompt",
        422,
        "missing-field",
        "prompt",
        send=lambda client: client.post("/v1/txt2img", json={}),
    ),
    wrong("prompt is a number", 422, "wrong-type", "prompt", prompt=5),
    wrong("prompt is null", 422, "wrong-type", "prompt", prompt=None),
    wrong("prompt is a list", 422, "wrong-type", "prompt", prompt=["a", "b"]),
    wrong("prompt of too many tokens", 422, "prompt-too-long", "prompt", prompt="x " * 21),
    wrong("prompt of too many characters", 422, "too-long", "prompt", prompt="x" * 20_001),
    wrong("prompt with NUL", 422, "text-not-printable", "prompt", prompt="a\0b"),
    wrong(
        "negative prompt too long",
        422,
        "prompt-too-long",
        "negative_prompt",
        negative_prompt="x " * 21,
    ),
    wrong("unknown field", 422, "unknown-field", "promt", promt="x"),
    wrong("unknown model", 422, "unknown-model", "model", model="sd-17"),
    wrong("a path for a model", 422, "unknown-model", "model", model="../../etc/passwd"),
    wrong("width is text", 422, "wrong-type", "width", width="512"),
    wrong("width is true", 422, "wrong-type", "width", width=True),
    wrong("previews is a number", 422, "wrong-type", "previews", previews=1),
    wrong("previews is text", 422, "wrong-type", "previews", previews="true"),
    wrong("width is a fraction", 422, "wrong-type", "width", width=64.5),
    wrong("width not a multiple", 422, "size-not-a-multiple", "width", width=100),
    wrong("height not a multiple", 422, "size-not-a-multiple", "height", height=65),
    wrong("width zero", 422, "out-of-range", "width", width=0),
    wrong("height negative", 422, "out-of-range", "height", height=-64),
    wrong("width too small", 422, "size-out-of-range", "width", width=8),
    wrong("height too large", 422, "size-out-of-range", "height", height=512),
    wrong("width beyond all models", 422, "out-of-range", "width", width=10**30),
    wrong("too many pixels", 422, "too-many-pixels", "width", width=256, height=256),
    wrong("no steps", 422, "out-of-range", "steps", steps=0),
    wrong("too many steps", 422, "too-many-steps", "steps", steps=51),
    wrong("unknown sampler", 422, "unknown-sampler", "sampler", sampler="magic"),
    wrong("unknown schedule", 422, "unknown-schedule", "schedule", schedule="soon"),
    wrong("guidance negative", 422, "out-of-range", "guidance_scale", guidance_scale=-1),
    wrong("guidance too large", 422, "guidance-too-large", "guidance_scale", guidance_scale=21),
    wrong("guidance is text", 422, "wrong-type", "guidance_scale", guidance_scale="7"),
    wrong("seed negative", 422, "out-of-range", "seed", seed=-2),
    wrong("seed too large", 422, "out-of-range", "seed", seed=2**53),
    wrong("too many images", 422, "too-many-images", "n", n=5),
    wrong("no images", 422, "out-of-range", "n", n=0),
    wrong("unknown format", 422, "unknown-choice", "output_format", output_format="gif"),
    wrong("quality too high", 422, "out-of-range", "quality", quality=101),
    wrong("unknown response", 422, "unknown-choice", "response", response="fax"),
    wrong("strength for txt2img", 422, "not-for-this-task", "strength", strength=0.5),
    wrong("image for txt2img", 422, "unknown-field", "image", image=IMAGE),
    # Images and masks.
    Malformed("no image", 422, "missing-field", "image", "/v1/img2img"),
    wrong_image("image is a number", "wrong-type", image=5),
    wrong_image("image is null", "wrong-type", image=None),
    wrong_image("image is empty", "empty-file", image=""),
    wrong_image("image not in base64", "bad-base64", image="*not base64*"),
    wrong_image("image is a URL", "bad-base64", image="http://127.0.0.1:6379/x.png"),
    wrong_image("data URI without base64", "bad-base64", image="data:image/png,xyz"),
    wrong_image("image is no image", "broken-image", image=in_base64(b"hello" * 100)),
    wrong_image("image cut short", "broken-image", image=in_base64(packed(gradient())[:-40])),
    wrong_image("image is a GIF", "broken-image", image=in_base64(packed(gradient(), "GIF"))),
    wrong_image("image is an SVG", "broken-image", image=in_base64(b"<svg xmlns='x'></svg>")),
    wrong_image("image too large", "image-too-large", image=in_base64(png_header(1000, 1000))),
    wrong_image("image is a bomb", "image-too-large", image=in_base64(png_header(30000, 30000))),
    wrong_image(
        "image of an illegal size", "image-size", image=in_base64(packed(gradient(260, 50)))
    ),
    wrong_image("strength zero", "out-of-range", "strength", strength=0),
    wrong_image("strength above one", "out-of-range", "strength", strength=1.01),
    wrong_image("strength of no step", "strength-too-small", "strength", strength=0.1, steps=4),
    wrong_image("mask for img2img", "unknown-field", "mask", mask=MASK),
    wrong_mask(
        "mask of another size", "mask-size", mask=in_base64(packed(left_half_white(32, 64)))
    ),
    wrong_mask("mask broken", "broken-image", mask=in_base64(packed(left_half_white())[:60])),
    Malformed("no mask", 422, "missing-field", "mask", "/v1/inpaint", {"image": IMAGE}),
    # The tasks of the paper.
    wrong_task("class", "no class", "missing-field", "class_id"),
    wrong_task("class", "class is a list", "wrong-type", "class_id", class_id=[7]),
    wrong_task("class", "class is true", "wrong-type", "class_id", class_id=True),
    wrong_task("class", "class is half a number", "wrong-type", "class_id", class_id=1.5),
    wrong_task("class", "class is null", "wrong-type", "class_id", class_id=None),
    wrong_task("class", "unknown name", "unknown-class", "class_id", class_id="cat"),
    wrong_task("class", "endless name", "too-long", "class_id", class_id="cat" * 100),
    wrong_task("class", "unknown class", "unknown-class", "class_id", class_id=10),
    wrong_task("class", "class negative", "out-of-range", "class_id", class_id=-1),
    wrong_task("class", "a prompt", "not-for-this-task", "prompt", class_id=1, prompt=SECRET),
    wrong_task("layout", "no boxes", "missing-field", "boxes"),
    wrong_task("layout", "an empty list", "too-few", "boxes", boxes=[]),
    wrong_task("layout", "boxes are a number", "wrong-type", "boxes", boxes=3),
    wrong_task("layout", "a box is a number", "wrong-type", "boxes.0", boxes=[3]),
    wrong_task("layout", "boxes without end", "too-many", "boxes", boxes=300 * BOXED["boxes"]),
    wrong_task("layout", "a class for boxes", "not-for-this-task", "class_id", **BOXED, class_id=1),
    wrong_box("too wide", "box-outside", "width", x=0.6),
    wrong_box("too low", "box-outside", "height", y=0.1),
    wrong_box("flat", "out-of-range", "height", height=0),
    wrong_box("left of the image", "out-of-range", "x", x=-0.1),
    wrong_box("in pixels", "out-of-range", "width", width=64),
    wrong_box("unknown class", "unknown-class", "class", **{"class": 10}),
    wrong_box("class is an object", "wrong-type", "class", **{"class": {}}),
    wrong_box("unknown name", "unknown-class", "class", **{"class": "cat"}),
    wrong_box("unknown field", "unknown-field", "label", label=3),
    wrong_form(
        "boxes of a form that are no JSON", 400, "invalid-json", "boxes", boxes=(None, "[{]")
    ),
    wrong_task("upscale", "no image", "missing-field", "image"),
    wrong_task("upscale", "too large", "image-size", "image", image=LARGE),
    wrong_task("upscale", "a size", "not-for-this-task", "width", image=IMAGE, width=128),
    wrong_task("upscale", "strength", "not-for-this-task", "strength", image=IMAGE, strength=0.5),
    wrong_task("unconditional", "an image", "unknown-field", "image", image=IMAGE),
    wrong_task("semantic", "no map", "missing-field", "image"),
    wrong_task("semantic", "unknown class", "unknown-class", "image", image=labels(10)),
    wrong_task("semantic", "colours", "not-a-label-map", "image", image=IMAGE),
    wrong_task("semantic", "16 bits", "not-a-label-map", "image", image=labels(1, "I;16")),
    wrong_task("semantic", "a JPEG", "broken-image", "image", image=labels(1, "L", "JPEG")),
    wrong_task("semantic", "a bomb", "image-too-large", "image", image=BOMB),
    wrong_task("semantic", "of an illegal size", "image-size", "image", image=SMALL),
    # Bodies.
    wrong_body("no body", 400, "invalid-json", "body", b""),
    wrong_body("broken JSON", 400, "invalid-json", "body", b'{"prompt": "x"'),
    wrong_body("a list", 400, "not-an-object", "body", b'["x"]'),
    wrong_body("JSON without end", 400, "json-too-deep", "body", b'{"prompt":' + b"[" * 100_000),
    wrong_body("not UTF-8", 400, "not-utf-8", "body", b'{"prompt": "\xff"}'),
    wrong_body("half a character", 422, "text-not-unicode", "prompt", rb'{"prompt": "\ud800"}'),
    wrong_body("NaN", 400, "not-finite", "body", b'{"prompt": "x", "guidance_scale": NaN}'),
    wrong_body(
        "Infinity", 400, "not-finite", "body", b'{"prompt": "x", "guidance_scale": -Infinity}'
    ),
    wrong_body(
        "1e400", 422, "not-finite", "guidance_scale", b'{"prompt":"x","guidance_scale":1e400}'
    ),
    wrong_body("endless number", 400, "invalid-json", "body", b'{"seed": ' + b"9" * 5000 + b"}"),
    wrong_body(
        "a million empty lists",
        400,
        "json-too-complex",
        "body",
        b'{"a":[' + b"[]," * 300_000 + b"0]}",
    ),
    wrong_body("a key twice", 422, "duplicate-field", "prompt", b'{"prompt": "x", "prompt": "y"}'),
    wrong_body(
        "many keys, one twice",
        422,
        "duplicate-field",
        "k0",
        b"{" + b",".join(b'"k%d":0' % (i % 90_000) for i in range(90_001)) + b"}",
    ),
    wrong_body("too large", 413, "payload-too-large", "body", b" " * (MAX_BODY_BYTES + 1)),
    Malformed("too large in pieces", 413, "payload-too-large", "body", send=endless),
    wrong_headers("no content type", "Content-Type"),
    wrong_headers("text", "Content-Type", content_type="text/plain"),
    wrong_headers("XML", "Content-Type", content_type="application/xml"),
    wrong_headers("url-encoded", "Content-Type", content_type="application/x-www-form-urlencoded"),
    wrong_headers(
        "compressed", "Content-Encoding", content_type="application/json", content_encoding="gzip"
    ),
    # Forms.
    wrong_form(
        "text for a number", 422, "wrong-type", "width", prompt=(None, "x"), width=(None, "wide")
    ),
    wrong_form(
        "fraction for an integer", 422, "wrong-type", "n", prompt=(None, "x"), n=(None, "1.5")
    ),
    wrong_form(
        "nan in a form",
        422,
        "wrong-type",
        "guidance_scale",
        prompt=(None, "x"),
        guidance_scale=(None, "nan"),
    ),
    wrong_form("a file for a text", 422, "wrong-type", "prompt", prompt=("p.txt", b"x")),
    wrong_form(
        "long text in a form", 413, "form-text-too-long", "prompt", prompt=(None, "x" * 70_000)
    ),
    Malformed(
        "a field twice",
        422,
        "duplicate-field",
        "prompt",
        send=lambda client: client.post(
            "/v1/txt2img", files=[("prompt", (None, "x")), ("prompt", (None, "y"))]
        ),
    ),
    Malformed(
        "form without a boundary",
        400,
        "invalid-form",
        "body",
        send=lambda client: client.post(
            "/v1/txt2img", content=b"x", headers={"Content-Type": "multipart/form-data"}
        ),
    ),
    Malformed(
        "a thousand fields",
        400,
        "invalid-form",
        "body",
        send=lambda client: client.post(
            "/v1/txt2img", files=[(f"f{i}", (None, "x")) for i in range(1000)]
        ),
    ),
    # Jobs and images.
    wrong_path("unknown job", 404, "unknown-job", None, f"/v1/jobs/{UNKNOWN_JOB}"),
    wrong_path("malformed job id", 422, "malformed", "job_id", "/v1/jobs/42"),
    wrong_path("job id in capitals", 422, "malformed", "job_id", f"/v1/jobs/{'A' * 32}"),
    wrong_path("job id and newline", 422, "malformed", "job_id", f"/v1/jobs/{UNKNOWN_JOB}%0A"),
    wrong_path("path in a job id", 404, "not-found", None, "/v1/jobs/..%2f..%2fetc%2fpasswd"),
    wrong_path("events of no job", 404, "unknown-job", None, f"/v1/jobs/{UNKNOWN_JOB}/events"),
    wrong_path("image of no job", 404, "unknown-job", None, f"/v1/jobs/{UNKNOWN_JOB}/images/0"),
    Malformed(
        "cancel an unknown job",
        404,
        "unknown-job",
        None,
        send=lambda client: client.delete(f"/v1/jobs/{UNKNOWN_JOB}"),
    ),
    wrong_path("no such path", 404, "not-found", None, "/v1/img3img"),
    wrong_path("no such method", 405, "method-not-allowed", None, "/v1/txt2img"),
]
INTERNALS = re.compile(
    r"Traceback|0x[0-9a-f]{6}|site-packages|/worker/|/service/|pydantic|PIL|errors\."
)


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, ABLE) as service:
        yield service


@pytest.mark.parametrize("case", REQUESTS, ids=lambda case: case.name)
def test_malformed_request_gets_its_problem(service: Running, case: Malformed) -> None:
    response = case.sent_by(service.client)
    assert response.status_code == case.status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:darkroom:problem:{case.problem}", response.text
    assert problem["status"] == case.status
    assert problem.get("field") == case.field, response.text
    if case.field is not None:
        assert case.field in problem["detail"]
        assert problem["bound"] in problem["detail"]
    assert not INTERNALS.search(response.text)
    assert SECRET not in response.text
    assert len(response.text) < 1000


def test_requests_cover_many_problems() -> None:
    assert len({(case.problem, case.field) for case in REQUESTS}) >= 40


def test_service_works_after_malformed_requests(service: Running) -> None:
    for case in REQUESTS[:5]:
        case.sent_by(service.client)
    response = service.client.post("/v1/txt2img", json={"prompt": "a good one", "seed": 1})
    assert response.status_code == 200, response.text
    assert [request.prompt for request in service.worker.seen] == ["a good one"]
