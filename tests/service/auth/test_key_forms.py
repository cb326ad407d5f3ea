"""API keys come in every header that clients of other systems use."""

import base64

import pytest
from starlette.datastructures import Headers

from service.auth.api_keys import token_of

TOKEN = "dk_0123456789ab_secret"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN} "},
        {"authorization": f"Key {TOKEN}"},
        {"authorization": f"Token {TOKEN}"},
        {"authorization": basic("anybody", TOKEN)},
        {"authorization": basic("", TOKEN)},
        {"authorization": basic(TOKEN, "")},
        {"x-api-key": TOKEN},
        {"x-key": TOKEN},
        {"authorization": basic("of", "a-proxy"), "x-api-key": TOKEN},
    ],
)
def test_key_is_found(headers: dict[str, str]) -> None:
    assert token_of(Headers(headers)) == TOKEN


@pytest.mark.parametrize(
    "authorization", ["", "Basic", "Basic ", "Basic ???", "Basic /w==", "Bearer", "Digest x"]
)
def test_nonsense_is_no_key(authorization: str) -> None:
    assert token_of(Headers({"authorization": authorization})) == ""
