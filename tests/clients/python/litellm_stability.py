"""Actions of the package `litellm`, with its provider for Stability's API."""

from typing import Any

import litellm

from tests.clients.python.lines import serve
from tests.clients.python.litellm_images import file


def generate(url: str, api_key: str, model: str, prompt: str, **params: Any) -> dict[str, Any]:
    """Generate an image; `model` is one of Stability's."""
    return litellm.image_generation(
        prompt, f"stability/{model}", **server(url, api_key), **params
    ).model_dump()


def edit(
    url: str, api_key: str, model: str, image: str, prompt: str | None = None, **params: Any
) -> dict[str, Any]:
    """Change an image; `model` is the name of a route, such as inpaint."""
    if "mask" in params:
        params["mask"] = file(params["mask"])
    return litellm.image_edit(
        file(image), prompt, f"stability/{model}", **server(url, api_key), **params
    ).model_dump()


def server(url: str, api_key: str) -> dict[str, Any]:
    return {"api_base": url, "api_key": api_key, "max_retries": 0}


if __name__ == "__main__":
    serve({"generate": generate, "edit": edit})
