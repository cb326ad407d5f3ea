"""Bodies and values that no API may take for right, for the hostile requests of every dialect."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.service.sample_images import gradient, packed

IMAGE = packed(gradient(64, 48))
FORM = "multipart/form-data; boundary=b"
WRONG: list[Any] = [
    *(True, -1, 1.5, 10**400, 2**63, 1e308, "", "x", "1e999", "\ud800", "\0", "NaN", "１２"),
    *([], [[]], [{}], {}, {"a": {"b": []}}, ["x"] * 1000, "x" * 100_000),
]
JSON_BODIES = [
    b"[]",
    b"null",
    b"5",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b'{"prompt": "a", "prompt": "b"}',
    b'{"prompt": NaN}',
    b'{"prompt": "\\ud800"}',
    b"[" * 100_000,
    b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"prompt": "x", "n": ' + b"9" * 5000 + b"}",
    b'{"prompt": "x", "x": [' + b"[]," * 200_001 + b"[]]}",
]
PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
END = b"--b--\r\n"
FORMS = [
    b"",
    b"--b",
    b"--other--\r\n",
    PART % (b"prompt", b"", b"x"),
    b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
    b"--b\r\nX: " + b"x" * 100_000 + b"\r\n\r\n\r\n" + END,
    (PART % (b"image", b"", b"x")) * 100 + END,
    PART % (b"prompt", b"", b"\xff\xfe") + END,
    PART % (b"image", b"", b"x" * 70_000) + END,
    PART % (b"image", b'; filename="a"', IMAGE[:40]) + END,
    PART % (b"lora[" + b"a" * 5000 + b"]", b"", b"x") + END,
    PART % (b"image[[[", b'; filename="a"', IMAGE) + END,
]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def sampled(fields: Sequence[str], sample: Collection[str]) -> list[Any]:
    """Return the parameters of a test of each field; those outside the sample are long."""
    return [pytest.param(name, marks=() if name in sample else pytest.mark.long) for name in fields]
