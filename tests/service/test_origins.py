"""Origins, path prefixes and public URLs in one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.origins import Origin, path_prefix, prefix_of, public_url
from service.settings import ServiceSettings


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("HTTPS://Shop.Example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),  # IDNA 2008, as in browsers
        ("http://[0:0:0:0:0:0:0:1]:8000", "http://[::1]:8000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("tauri://localhost", "tauri://localhost"),
    ],
)
def test_origin_has_one_spelling(text: str, spelled: str) -> None:
    assert str(Origin.parse(text)) == spelled
    assert ServiceSettings.model_validate({"allowed_origins": text}).allowed_origins == (spelled,)


@pytest.mark.parametrize(
    "text",
    [
        *("*", "null", "shop.example", "//shop.example", "shop.example:80", "https://"),
        *("https://shop.example/page", "https://shop.example?x", "https://shop.example#x"),
        *("https://me:secret@shop.example", "https://shop.example:0", "https://shop.example:65536"),
        *(
            "https://*.example",
            "https://shop .example",
            "http://[::1",
            "http://1::2",
            "https://\x00",
        ),
    ],
)
def test_anything_else_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the settings have the message
        Origin.parse(text)
    with pytest.raises(ValidationError, match="scheme, host and perhaps port"):
        ServiceSettings.model_validate({"allowed_origins": ("https://other.example", text)})


@given(st.text() | st.from_regex(r"https?://.{0,20}", fullmatch=True))
def test_any_text_is_an_origin_or_refused(text: str) -> None:
    try:
        origin = Origin.parse(text)
    except ValueError:
        return
    assert Origin.parse(str(origin)) == origin
    assert str(origin).isascii()


@pytest.mark.parametrize(
    ("given", "spelled"), [("", ""), ("/", ""), ("/darkroom/", "/darkroom"), ("/a/b.c", "/a/b.c")]
)
def test_prefix_has_no_slash_at_its_end(given: str, spelled: str) -> None:
    assert path_prefix(given) == spelled


@pytest.mark.parametrize(
    "text",
    ["darkroom", "//evil.example", "/a//b", "/../x", "/a/.", "/a b", '/"><script>', "/%2e", "/ä"],
)
def test_unusual_prefix_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="as in /darkroom"):
        ServiceSettings.model_validate({"root_path": text})


def test_public_url_has_one_spelling() -> None:
    assert public_url("HTTPS://Images.Example:443/Darkroom/") == "https://images.example/Darkroom"
    assert prefix_of("https://images.example/Darkroom") == "/Darkroom"
    for text in ("images.example", "ftp://images.example", "https://images.example/?x", "https://"):
        with pytest.raises(ValidationError, match="http:// or https://"):
            ServiceSettings.model_validate({"public_url": text})


def test_public_url_and_root_path_agree() -> None:
    settings = ServiceSettings.model_validate(
        {"root_path": "/a", "public_url": "https://b.example"}
    )
    assert (settings.public_url, settings.path_prefix) == ("https://b.example/a", "/a")
    with pytest.raises(ValidationError, match="DARKROOM_ROOT_PATH, which is /a"):
        ServiceSettings.model_validate({"root_path": "/a", "public_url": "https://b.example/c"})
