"""Strategies of requests that are nearly right: their fields, spelled and valued as people may."""

import base64
import json
from typing import Any

from hypothesis import strategies as st
from PIL import Image, ImageDraw

from protocol.request.tasks import Task
from service.schemas.requests import REQUESTS
from tests.service.hostile.input_files import input_files
from tests.service.sample_images import gradient, in_base64, left_half_white, packed

FILES = [packed(gradient()), packed(gradient(), "JPEG"), packed(left_half_white())]
FILES += [packed(left_half_white(side, side)) for side in (16, 128)]
FILES += [data for data in input_files().values() if len(data) < 5000]
FIELDS = [
    *sorted({name for request in REQUESTS.values() for name in request.model_fields}),
    *("image_url", "mask_url", "x"),
]
PATHS = [f"/v1/{task.value}".encode() for task in Task]
NUMBERS = [0, 1, -1, 8, 16, 64, 2**53, 2**63, -(2**64), 10**30, 0.0, 0.5, 1.0, 8.0, 1e-300, 1e300]
WORDS = [
    "",
    " ",
    "x",
    "true",
    "1",
    "-1",
    "16.0",
    "null",
    "png",
    "PNG",
    "ddim",
    "tiny",
    "lanczos",
    "latent",
    "2x",
    "masked",
    "soft",
    "alpha",
    "fill",
    "crop",
    "top-left",
    "\0",
    "\ufeff",
]
OBJECTS: list[Any] = [
    [],
    {},
    [{}],
    [None],
    [{"name": None}],
    [{"name": "x", "weight": None}],
    [{"model": "canny", "image": None, "weight": None}],
    [{"class": 1.0, "x": 0, "y": 0.0, "width": 1, "height": 1e-9}],
    {"class": "x"},
]


@st.composite
def spellings(draw: st.DrawFn) -> str:
    """Draw a file in base64, in some spelling, right or wrong."""
    data = draw(st.sampled_from(FILES))
    text = base64.b64encode(data[: draw(st.sampled_from([len(data), len(data) - 9]))]).decode()
    change = draw(st.sampled_from(["", "unpadded", "url", "lines", "cut", "junk"]))
    text = {
        "": text,
        "unpadded": text.rstrip("="),
        "url": text.replace("+", "-").replace("/", "_"),
        "lines": "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
        "cut": text[:-1],
        "junk": f"{text[:50]}*{text[50:]}",
    }[change]
    head = ["", "data:image/png;base64,", "DATA:;BASE64,", "data:image/png;a=b; base64 ,", "data:,"]
    return draw(st.sampled_from(head)) + text


@st.composite
def masks(draw: st.DrawFn) -> bytes:
    """Draw a mask file: a shape in some mode, size and convention."""
    mode = draw(st.sampled_from(["L", "LA", "RGBA", "RGB", "1", "P", "I;16"]))
    size = draw(
        st.sampled_from([(64, 64), (32, 32), (128, 64), (64, 63), (1, 1), (1, 300), (7, 5)])
    )
    mask = Image.new(mode, size, draw(st.sampled_from([0, 1])))
    if mode != "I;16":
        corners = st.integers(-9, 140)
        box = sorted(draw(st.lists(corners, min_size=4, max_size=4)))
        colour = draw(st.sampled_from(["white", "red", "black", "#808080"]))
        ImageDraw.Draw(mask).rectangle((box[0], box[1], box[2], box[3]), fill=colour)
    kinds = {"L": ["PNG", "JPEG", "WEBP"], "RGB": ["PNG", "JPEG", "AVIF"], "RGBA": ["PNG", "WEBP"]}
    return packed(mask, draw(st.sampled_from(kinds.get(mode, ["PNG"]))))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(WORDS),
    st.sampled_from(OBJECTS),
    st.text(max_size=20),
    st.floats(allow_nan=False, allow_infinity=False),
)


@st.composite
def json_bodies(draw: st.DrawFn) -> bytes:
    """Draw a JSON body with an image, a mask or both, and up to four other fields."""
    fields: dict[str, Any] = {"prompt": "x"}
    for name in draw(st.sets(st.sampled_from(["image", "mask"]))):
        fields[name] = draw(spellings() | masks().map(in_base64))
    fields |= draw(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4))
    mark = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"]))
    return mark + json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")


@st.composite
def forms(draw: st.DrawFn) -> bytes:
    """Draw a form, with the boundary "b"."""
    parts = [b'name="prompt"\r\n\r\nx']
    text = st.one_of(VALUES.map(str), VALUES.map(json.dumps), spellings())
    for name, value in draw(st.dictionaries(st.sampled_from(FIELDS), text, max_size=4)).items():
        parts.append(b'name="%s"\r\n\r\n%s' % (name.encode(), value.encode("utf-8", "replace")))
    for name in draw(st.sets(st.sampled_from(["image", "mask", "control_image_0"]))):
        data = draw(st.sampled_from([*FILES, b""]) | masks())
        kind = draw(st.sampled_from([b"image/png", b"text/plain", b"", b"\xff"]))
        file_name = draw(st.sampled_from([b"a.png", b"", b"../a"]))
        parts.append(
            b'name="%s"; filename="%s"\r\nContent-Type: %s\r\n\r\n%s'
            % (name.encode(), file_name, kind, data)
        )
    lines = (b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
    return b"".join(lines) + b"--b--\r\n"
