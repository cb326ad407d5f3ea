"""Actions of the Python package `openai`."""

import asyncio
import base64
import warnings
from typing import Any

from openai import AsyncOpenAI, OpenAI

from tests.clients.python.lines import serve

Files = list[tuple[str, bytes, str]]


def client(url: str, api_key: str) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0)


def body(params: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of a method; fields that it does not know are `extra`."""
    return {"extra_body" if name == "extra" else name: value for name, value in params.items()}


def models(url: str, api_key: str) -> list[dict[str, Any]]:
    return [model.model_dump() for model in client(url, api_key).models.list()]


def model(url: str, api_key: str, name: str) -> dict[str, Any]:
    return client(url, api_key).models.retrieve(name).model_dump()


def generate(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return client(url, api_key).images.generate(**body(params)).model_dump()


def edit(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    return client(url, api_key).images.edit(**with_files(params)).model_dump()


def variation(url: str, api_key: str, image: str, **params: Any) -> dict[str, Any]:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        images = client(url, api_key).images
        return images.create_variation(image=file(image), **params).model_dump()


def stream(url: str, api_key: str, **params: Any) -> list[dict[str, Any]]:
    events = client(url, api_key).images.generate(stream=True, **body(params))
    return [event.model_dump() for event in events]


def stream_edit(url: str, api_key: str, **params: Any) -> list[dict[str, Any]]:
    events = client(url, api_key).images.edit(stream=True, **with_files(params))
    return [event.model_dump() for event in events]


def stop_stream(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    """Leave a stream after its first event, and return that."""
    with client(url, api_key).images.generate(stream=True, **body(params)) as events:
        return next(iter(events)).model_dump()


async def abort(url: str, api_key: str, **params: Any) -> None:
    """Cancel the task of a request that waits for its answer."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0) as patient:
        task = asyncio.create_task(patient.images.generate(**body(params)))
        await asyncio.sleep(0.1)
        task.cancel()
        await task


def time_out(url: str, api_key: str, **params: Any) -> dict[str, Any]:
    impatient = client(url, api_key).with_options(timeout=0.1)
    return impatient.images.generate(**body(params)).model_dump()


def file(image: str) -> tuple[str, bytes, str]:
    return "image.png", base64.b64decode(image), "image/png"


def with_files(params: dict[str, Any]) -> dict[str, Any]:
    files: Files = [file(image) for image in params["images"]]
    rest = {name: value for name, value in body(params).items() if name not in ("images", "mask")}
    mask = {"mask": file(params["mask"])} if "mask" in params else {}
    return {**rest, **mask, "image": files[0] if len(files) == 1 else files}


if __name__ == "__main__":
    serve(
        {
            "models": models,
            "model": model,
            "generate": generate,
            "edit": edit,
            "variation": variation,
            "stream": stream,
            "stream_edit": stream_edit,
            "stop_stream": stop_stream,
            "abort": abort,
            "time_out": time_out,
        }
    )
