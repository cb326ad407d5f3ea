"""The golden requests and the files that the service answers them with."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.golden.inputs import with_images

FOLDER = Path(__file__).parent
KEPT = FOLDER / "images"


@dataclass(frozen=True)
class GoldenRequest:
    """A request of `requests.json`: `body` goes to the route of `task`."""

    name: str
    task: str
    body: dict[str, Any]

    @property
    def file_names(self) -> list[str]:
        """Names of the files of all its images, in order."""
        suffix = self.body.get("output_format", "png")
        n = self.body.get("n", 1)
        return [f"{self.name}{f'-{i}' if n > 1 else ''}.{suffix}" for i in range(n)]


def all_requests() -> list[GoldenRequest]:
    """Read `requests.json`."""
    entries = json.loads((FOLDER / "requests.json").read_text("utf-8"))
    return [GoldenRequest(**entry) for entry in entries]


def generate(client: httpx.Client, request: GoldenRequest) -> dict[str, bytes]:
    """Return the files of the images by name. Raises RuntimeError if the service refuses."""
    answer = client.post(f"/v1/{request.task}", json=with_images(request.body))
    if answer.status_code != httpx.codes.OK:
        raise RuntimeError(f"{request.name}: {answer.status_code} {answer.text}")
    files = [image_file(client, image) for image in answer.json()["images"]]
    return dict(zip(request.file_names, files, strict=True))


def image_file(client: httpx.Client, image: dict[str, Any]) -> bytes:
    """Return the file of one image of an answer, from the answer itself or from its URL."""
    if "base64" in image:
        return base64.b64decode(image["base64"])
    return client.get(image["url"]).raise_for_status().content


def generate_all(client: httpx.Client) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the file of every image, request after request."""
    for request in all_requests():
        yield from generate(client, request).items()
