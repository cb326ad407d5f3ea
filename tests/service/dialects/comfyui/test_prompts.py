"""Prompts through the whole service: the same pixels as by the native API."""

import json
from typing import Any

import httpx
import pytest

from protocol.errors import JobFailed
from tests.service.conftest import Running
from tests.service.dialects.comfyui.comfy import ended, files, queue, upload
from tests.service.dialects.comfyui.graphs import (
    Graph,
    for_inpainting,
    hires,
    image_to_image,
    inpainting,
    outpainting,
    text_to_image,
    upscaling,
    with_controlnet,
    with_lora,
)
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

SETTINGS = {
    "prompt": "a red heart",
    "negative_prompt": "blue",
    "steps": 4,
    "sampler": "euler",
    "schedule": "normal",
    "guidance_scale": 8.0,
    "seed": 5,
}
IMAGE = in_base64(packed(gradient()))


def native(client: httpx.Client, task: str, **fields: Any) -> list[bytes]:
    """Return the images of the native API."""
    answer = client.post(f"/v1/{task}", json={**SETTINGS, **fields})
    assert answer.status_code == 200, answer.text
    return [opened(one["base64"]).tobytes() for one in answer.json()["images"]]


def generated(client: httpx.Client, graph: Graph, node_id: str = "9") -> list[bytes]:
    """Return the images of a graph."""
    item = ended(client, queue(client, graph))
    assert item["status"]["status_str"] == "success", item
    return [opened(data).tobytes() for data in files(client, item, node_id)]


def test_text_to_image_has_the_pixels_of_the_native_api(comfy: Running) -> None:
    graph = text_to_image()
    graph["5"]["inputs"]["batch_size"] = 2
    expected = native(comfy.client, "txt2img", width=64, height=64, n=2)
    assert generated(comfy.client, graph) == expected
    [request, other] = comfy.worker.seen[-2:]
    assert request == other


@pytest.mark.parametrize(
    ("graph", "task", "fields"),
    [
        (image_to_image(), "img2img", {"image": IMAGE, "steps": 8, "strength": 0.5}),
        (
            with_lora(),
            "txt2img",
            {"width": 64, "height": 64, "loras": [{"name": "detail", "weight": 0.5}]},
        ),
        (
            hires(),
            "txt2img",
            {
                "width": 64,
                "height": 64,
                "hires_scale": 1.5,
                "hires_steps": 8,
                "hires_strength": 0.5,
                "hires_upscaler": "latent-nearest-exact",
            },
        ),
        (
            with_controlnet(),
            "txt2img",
            {
                "width": 64,
                "height": 64,
                "controls": [
                    {
                        "model": "canny",
                        "weight": 0.75,
                        "start": 0.25,
                        "end": 0.5,
                        "image": in_base64(packed(gradient(128, 64))),
                        "resize_mode": "crop",
                    }
                ],
            },
        ),
        (
            outpainting(),
            "outpaint",
            {"image": IMAGE, "strength": 1.0, "right": 64, "edge_blend": 8},
        ),
    ],
    ids=["img2img", "lora", "hires", "controlnet", "outpaint"],
)
def test_graphs_are_the_requests_of_the_native_api(
    comfy: Running, graph: Graph, task: str, fields: dict[str, Any]
) -> None:
    """The whole request is compared, so that the pixels are the same with any worker."""
    upload(comfy.client)
    upload(comfy.client, "wide.png", packed(gradient(128, 64)), subfolder="sub")
    expected = native(comfy.client, task, **fields)
    assert generated(comfy.client, graph) == expected
    [request, other] = comfy.worker.seen[-2:]
    assert request == other


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_inpainting_has_the_pixels_of_the_native_api(comfy: Running, kind: str) -> None:
    """Transparent pixels are inpainted; the colours under it are those of the file."""
    image, mask = gradient(), left_half_white()
    transparent = image.copy()
    transparent.putalpha(mask.point(lambda level: 255 - level))
    upload(comfy.client, f"{kind}.png", packed(transparent))
    graph = inpainting() if kind == "soft" else for_inpainting()
    graph["10"]["inputs"]["image"] = f"{kind}.png"
    fields = {"image": IMAGE, "mask": in_base64(packed(mask))}
    options = (
        {"steps": 8, "strength": 0.5, "mask_mode": "soft"}
        if kind == "soft"
        else {"strength": 1.0, "mask_grow": 3}
    )
    expected = native(comfy.client, "inpaint", **fields, **options)
    assert generated(comfy.client, graph) == expected
    [request, other] = comfy.worker.seen[-2:]
    assert request == other


def test_upscaling_has_the_pixels_of_the_native_api(comfy: Running) -> None:
    upload(comfy.client)
    answer = comfy.client.post("/v1/upscale", json={"image": IMAGE, "upscaler": "4x-net"})
    expected = opened(answer.json()["images"][0]["base64"])
    item = ended(comfy.client, queue(comfy.client, upscaling()))
    [file] = files(comfy.client, item, "4")
    assert same(opened(file), expected)


def test_a_result_is_the_input_of_the_next_prompt(comfy: Running) -> None:
    item = ended(comfy.client, queue(comfy.client, text_to_image()))
    [image] = item["outputs"]["9"]["images"]
    graph = image_to_image()
    graph["10"]["inputs"]["image"] = f"{image['filename']} [output]"
    [before] = files(comfy.client, item)
    [after] = files(comfy.client, ended(comfy.client, queue(comfy.client, graph)))
    assert same(opened(before), opened(after))  # as the fake worker does


def test_names_of_files(comfy: Running) -> None:
    graph = text_to_image()
    graph["9"]["inputs"]["filename_prefix"] = "work/hearts"
    graph["130"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    item = ended(comfy.client, queue(comfy.client, graph))
    [saved] = item["outputs"]["9"]["images"]
    [shown] = item["outputs"]["130"]["images"]
    job = comfy.worker.jobs[-1]
    assert saved == {"filename": f"hearts_{job}_00001_.png", "subfolder": "work", "type": "output"}
    assert shown["type"] == "temp"
    assert item["prompt"][2] == graph
    assert item["prompt"][4] == ["9", "130"]


def test_ids_of_the_client(comfy: Running) -> None:
    own = "0a1b2c3d-0000-4000-8000-00000000abcd"
    assert queue(comfy.client, text_to_image(), prompt_id=own) == own
    assert ended(comfy.client, own)["prompt"][1] == own
    assert comfy.client.get("/history/no-such-id").json() == {}
    response = comfy.client.post("/prompt", json={"prompt": text_to_image(), "prompt_id": "../x"})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_prompt"


def test_any_content_type_and_api_prefix(comfy: Running) -> None:
    for content_type in ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded", None):
        headers = {"Content-Type": content_type} if content_type else {}
        body = json.dumps({"prompt": text_to_image()}).encode()
        response = comfy.client.post("/api/prompt", content=body, headers=headers)
        assert response.status_code == 200, response.text
        ended(comfy.client, response.json()["prompt_id"])


def test_partial_execution(comfy: Running) -> None:
    graph = text_to_image()
    graph["130"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    item = ended(comfy.client, queue(comfy.client, graph, partial_execution_targets=["130"]))
    assert item["outputs"].keys() == {"130"}


def test_bounds_of_the_model_are_errors_of_nodes(comfy: Running) -> None:
    """ComfyUI's bounds are wider; those of the model are found when the request is resolved."""
    for graph, node_id, kind in (
        (text_to_image(steps=51), "3", "value_bigger_than_max"),
        (text_to_image(cfg=21), "3", "value_bigger_than_max"),
        (with_lora(50), "40", "value_bigger_than_max"),
    ):
        response = comfy.client.post("/prompt", json={"prompt": graph})
        assert response.status_code == 400
        body = response.json()
        assert body["error"]["type"] == "prompt_outputs_failed_validation"
        assert body["node_errors"].keys() == {node_id}, body
        assert body["node_errors"][node_id]["dependent_outputs"] == ["9"]
        assert body["node_errors"][node_id]["errors"][0]["type"] == kind, body
    graph = text_to_image()
    graph["5"]["inputs"]["width"] = 8192
    body = comfy.client.post("/prompt", json={"prompt": graph}).json()
    assert body["node_errors"]["5"]["class_type"] == "EmptyLatentImage"
    assert "8192" in body["node_errors"]["5"]["errors"][0]["details"]


def test_a_failed_prompt(comfy: Running) -> None:
    comfy.worker.error = JobFailed("out of memory")
    try:
        item = ended(comfy.client, queue(comfy.client, text_to_image()))
    finally:
        comfy.worker.error = None
    assert item["status"]["status_str"] == "error"
    assert item["status"]["completed"] is False
    [*_, (name, data)] = item["status"]["messages"]
    assert name == "execution_error"
    assert data["node_id"] == "3"
    assert data["node_type"] == "KSampler"
    assert "out of memory" in data["exception_message"]
