"""Actions of the Python package `huggingface_hub`."""

import asyncio
import base64
from typing import Any

from huggingface_hub import AsyncInferenceClient, InferenceClient

from tests.clients.python.files import as_base64
from tests.clients.python.lines import serve


def client(url: str, api_key: str, path: str) -> InferenceClient:
    return InferenceClient(base_url=f"{url}{path}", api_key=api_key)


def generate(url: str, api_key: str, path: str, prompt: str, **params: Any) -> str:
    return as_base64(client(url, api_key, path).text_to_image(prompt, **params))


def edit(url: str, api_key: str, path: str, image: str, **params: Any) -> str:
    hub = client(url, api_key, path)
    return as_base64(hub.image_to_image(base64.b64decode(image), **params))


async def abort(url: str, api_key: str, path: str, prompt: str, **params: Any) -> None:
    """Cancel the task of a request that waits for its answer."""
    hub = AsyncInferenceClient(base_url=f"{url}{path}", api_key=api_key)
    task = asyncio.create_task(hub.text_to_image(prompt, **params))
    await asyncio.sleep(0.1)
    task.cancel()
    await task


if __name__ == "__main__":
    serve({one.__name__: one for one in (generate, edit, abort)})
