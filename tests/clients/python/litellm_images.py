"""Actions of the package `litellm`, with its provider for servers that speak OpenAI's API."""

import asyncio
import io
from base64 import b64decode
from typing import Any

import litellm

from tests.clients.python.lines import serve


def models(url: str, api_key: str) -> list[dict[str, Any]]:
    names = litellm.get_valid_models(
        check_provider_endpoint=True,
        custom_llm_provider="openai",
        api_key=api_key,
        api_base=url,
    )
    return [{"id": name} for name in names]


def generate(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return litellm.image_generation(**common(url, api_key, params)).model_dump()


def edit(url: str, api_key: str, images: list[str], **params: Any) -> dict[str, Any]:
    files = [file(image) for image in images]
    if "mask" in params:
        params["mask"] = file(params["mask"])
    image = files[0] if len(files) == 1 else files
    return litellm.image_edit(image=image, **common(url, api_key, params)).model_dump()


async def abort(url: str, api_key: str, **params: Any) -> None:
    """Cancel the task of a request that waits for its answer."""
    task = asyncio.create_task(litellm.aimage_generation(**common(url, api_key, params)))
    await asyncio.sleep(0.1)
    task.cancel()
    await task


def time_out(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return litellm.image_generation(timeout=0.1, **common(url, api_key, params)).model_dump()


def common(url: str, api_key: str, params: dict[str, Any]) -> dict[str, Any]:
    extra = {"extra_body": params.pop("extra")} if "extra" in params else {}
    server = {"api_base": f"{url}/v1", "api_key": api_key, "max_retries": 0}
    return {**params, **extra, **server, "model": f"openai/{params['model']}"}


def file(image: str) -> io.BytesIO:
    data = io.BytesIO(b64decode(image))
    data.name = "image.png"
    return data


if __name__ == "__main__":
    serve(
        {
            "models": models,
            "generate": generate,
            "edit": edit,
            "abort": abort,
            "time_out": time_out,
        }
    )
