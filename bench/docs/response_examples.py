"""Records an example of each JSON response for the OpenAPI description.

    python -m bench.docs.response_examples

A service with a fake worker gets the example request of every operation. What takes much room is
shortened: images, and lists and tables of many entries.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx

from service.openapi import EXAMPLES
from service.schemas.examples import IMAGE, JOB
from service.schemas.response_examples import FILE, response_examples
from tests.service.conftest import ABLE, Running, running
from tests.service.description import JSON, Description, description_of, operations
from tests.service.sample_images import gradient, packed
from tests.support.redis_server import RedisServer

SETTINGS: dict[str, object] = {"install_owners": ("stabilityai",), "model_control": True}
MODEL_OF = {"owner": "darkroom", "model": "tiny", "alias": "tiny", "name": "tiny"}
OTHERS = {"node_class": "KSampler", "folder": "checkpoints"}
MOST_ITEMS = 2  # of a list or a table of equal entries
LONG_TEXT = 2000  # characters; longer ones are images
ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
ADDRESS, SOME_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+"), "http://127.0.0.1:8000"
SECRET, SOME_SECRET = re.compile("whsec_[A-Za-z0-9+/=]+"), f"whsec_{'A' * 43}="
TARGET, QUEUE = "x-fal-target-url", "https://queue.fal.run/darkroom/tiny"
PROXIED = {
    "fal_proxy_post": "",
    "fal_proxy_get": "/requests/{id}/status",
    "fal_proxy_put": "/requests/{id}/cancel",
}
UPLOADS = {"comfy_upload_image": "image", "comfy_upload_mask": "image"}


def main() -> None:
    """Write the examples of all operations that have none of their own."""
    with RedisServer() as redis, running(redis.url, ABLE, **SETTINGS) as service:
        examples = dict(_examples(service, description_of()))
    FILE.write_text(json.dumps(dict(sorted(examples.items())), indent=1, ensure_ascii=False) + "\n")
    print(f"{len(examples)} examples in {FILE}")


def _examples(service: Running, description: Description) -> Iterator[tuple[str, Any]]:
    known = _known(service)
    for method, path, operation in operations(description):
        if not _lacks_example(operation):
            continue
        name = operation["operationId"]
        answer = _ask(service, method, path, operation, known)
        if answer.is_success:
            yield name, _shortened(answer.json())
        else:
            print(f"{name}: {answer.status_code} {answer.text}")


def _lacks_example(operation: Description) -> bool:
    """Return True if no JSON response of success has an example of its own."""
    contents = [
        response["content"][JSON]
        for status, response in operation["responses"].items()
        if status[0] == "2" and JSON in response.get("content", {})
    ]
    if not contents or operation["operationId"] in response_examples():
        return bool(contents)
    return not any(EXAMPLES & content.keys() for content in contents)


def _known(service: Running) -> dict[str, str]:
    """Return a value for each parameter of a path: ids of things that exist."""
    client = service.client
    job = client.post("/v1/txt2img", json={"prompt": "a slice of pizza"}).json()["id"]
    batch = client.post("/v1/batches", json={"prompts": ["a red heart"]}).json()["id"]
    install = client.post("/v1/models", json={"source": "stabilityai/sdxl-turbo"}).json()["id"]
    example = description_of()["paths"]["/prompt"]["post"]["requestBody"]["content"][JSON]
    prompt = client.post("/prompt", json=example["example"]).json()["prompt_id"]
    while not client.get(f"/history/{prompt}").json():
        pass
    ids = {"job_id": job, "batch_id": batch, "install_id": install, "prompt_id": prompt}
    versions = client.get("/v1/models/darkroom/tiny/versions").json()
    version = versions["results"][0]["id"]
    return MODEL_OF | OTHERS | ids | {"model_id": "tiny", "version": version}


def _ask(
    service: Running, method: str, path: str, operation: Description, known: dict[str, str]
) -> httpx.Response:
    """Send the example of an operation."""
    path = re.sub(r"\{(\w+)\}", lambda match: known[match[1]], path)
    options: dict[str, Any] = {}
    body = operation.get("requestBody", {}).get("content", {})
    if file := UPLOADS.get(operation["operationId"]):
        options["files"] = {file: ("in.png", packed(gradient()), "image/png")}
        options["data"] = {"original_ref": json.dumps({"filename": "in.png", "type": "input"})}
    elif (target := PROXIED.get(operation["operationId"])) is not None:
        options = _proxied(service, target)
    elif JSON in body:
        options["json"] = body[JSON]["example"]
    return service.client.request(method, path, **options)


def _proxied(service: Running, path: str) -> dict[str, Any]:
    """Return the options of a request to fal's proxy; `path` is that of a job that waits."""
    submission: dict[str, Any] = {
        "headers": {TARGET: QUEUE},
        "json": {"prompt": "a slice of pizza"},
    }
    if not path:
        return submission
    service.worker.hold()
    queued = service.client.post("/api/fal/proxy", **submission).json()
    return {"headers": {TARGET: QUEUE + path.format(id=queued["request_id"])}}


def _shortened(value: Any) -> Any:
    """Return a value with short lists, and with the same ids and images as other examples."""
    if isinstance(value, dict):
        items = list(value.items())
        alike = len(items) > 40 and all(isinstance(one, dict) for one in value.values())
        return {name: _shortened(one) for name, one in (items[:MOST_ITEMS] if alike else items)}
    if isinstance(value, list):
        return [_shortened(one) for one in value[:MOST_ITEMS]]
    if isinstance(value, str):
        text = SECRET.sub(SOME_SECRET, ADDRESS.sub(SOME_ADDRESS, value))
        return IMAGE if len(value) > LONG_TEXT else ID.sub(JOB, text)
    return value


if __name__ == "__main__":
    main()
