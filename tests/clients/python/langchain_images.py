"""Actions of LangChain's wrapper of DALL-E, which reads URLs only."""

import warnings
from typing import Any

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

from tests.clients.python.lines import serve


def generate(url: str, api_key: str, prompt: str, **params: Any) -> dict[str, Any]:
    wrapper = DallEAPIWrapper(base_url=f"{url}/v1", api_key=api_key, max_retries=0, **params)
    return {"data": [{"url": url} for url in wrapper.run(prompt).split(wrapper.separator)]}


if __name__ == "__main__":
    serve({"generate": generate})
