"""Actions of the package `comfy-api-simplified`, which logs in with a password."""

import base64
import tempfile
from pathlib import Path
from typing import Any

from comfy_api_simplified import ComfyApiWrapper, ComfyWorkflowWrapper

from tests.clients.python.lines import serve

USER = "anybody"  # the password is the key


def generate(url: str, api_key: str, graph: dict[str, Any]) -> dict[str, Any]:
    """Change a graph by the titles of its nodes, and wait for its images."""
    workflow = ComfyWorkflowWrapper(graph)
    return _images(ComfyApiWrapper(url, USER, api_key), workflow)


def edit(url: str, api_key: str, graph: dict[str, Any], image: str) -> dict[str, Any]:
    api = ComfyApiWrapper(url, USER, api_key)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "simplified.png"
        file.write_bytes(base64.b64decode(image))
        uploaded = api.upload_image(file)
    workflow = ComfyWorkflowWrapper(graph)
    place = f"{uploaded['subfolder']}/{uploaded['name']}"
    workflow.set_node_param("Load Image", "image", place)
    return _images(api, workflow)


def lists(url: str, api_key: str) -> dict[str, Any]:
    api = ComfyApiWrapper(url, USER, api_key)
    info = api.get_object_info("CheckpointLoaderSimple")
    return {
        "models": info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0],
        "embeddings": api.get_embeddings(),
        "system": api.get_system_stats()["system"],
        "queue": api.get_queue(),
        "interrupted": api.interrupt(),
    }


def _images(api: ComfyApiWrapper, workflow: ComfyWorkflowWrapper) -> dict[str, Any]:
    found = api.queue_and_wait_images(workflow, "Save Image")
    return {"files": [base64.b64encode(data).decode() for data in found.values()]}


if __name__ == "__main__":
    serve({one.__name__: one for one in (generate, edit, lists)})
