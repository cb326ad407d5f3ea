"""A front end that is replayed: its requests as httpx sends them, with its own form of the key."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from tests.clients.stack import Stack


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(login: str) -> dict[str, str]:
    """Return the header of `user:password`; without one, of nothing, as some front ends send it.

    `fetch` takes away a space at the end, and httpx refuses to send one.
    """
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}".rstrip()}


def at(url: str, headers: dict[str, str] | None = None) -> httpx.Client:
    """Return a client with the headers of all requests of a front end."""
    return httpx.Client(base_url=url, headers=headers, timeout=300)


def with_userinfo(stack: Stack) -> str:
    """Return the address with the key as its password, which clients send as Basic."""
    return str(httpx.URL(stack.url).copy_with(username="user", password=stack.key))


def ok(response: httpx.Response) -> Any:
    """Return the JSON of an answer with a status of success."""
    assert response.is_success, f"{response.status_code} {response.text[:500]}"
    return response.json()


TEXT = "text/plain;charset=UTF-8"  # as `fetch` says of a text
FORM = "application/x-www-form-urlencoded"  # as Python's urllib says of every body


def said_to_be(content_type: str, body: object) -> dict[str, Any]:
    """Return the arguments of a request whose body is JSON, whatever its content type is."""
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": content_type}}
