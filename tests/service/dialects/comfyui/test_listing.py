"""Lists that clients read when they connect, and hostile bodies."""

import json
from typing import Any

import pytest

from service.dialects.comfyui.graph.classes import NODES
from service.dialects.comfyui.graph.parsing import MAX_BYTES, MAX_NODES
from tests.service.conftest import MAX_BODY_BYTES, Running
from tests.service.dialects.comfyui.comfy import ended, queue
from tests.service.dialects.comfyui.graphs import text_to_image


def get(comfy: Running, path: str) -> Any:
    response = comfy.client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


def choices(info: Any, name: str) -> list[str]:
    """Return a list as front ends read it: the first element of the input."""
    [names, _] = info["input"]["required"][name]
    assert isinstance(names, list)
    return names


def test_object_info(comfy: Running) -> None:
    found = get(comfy, "/object_info")
    assert found.keys() == NODES.keys()
    assert choices(found["CheckpointLoaderSimple"], "ckpt_name") == ["tiny"]
    assert choices(found["KSampler"], "sampler_name") == [
        *("euler", "euler_ancestral", "dpmpp_2m", "ddim", "uni_pc_bh2")
    ]
    assert choices(found["KSampler"], "scheduler") == ["simple", "karras", "normal"]
    assert choices(found["LoraLoader"], "lora_name") == ["detail", "style"]
    assert choices(found["ControlNetLoader"], "control_net_name") == ["canny", "depth"]
    assert choices(found["UpscaleModelLoader"], "model_name") == ["4x-net"]
    assert choices(found["VAELoader"], "vae_name") == ["tiny", "taesd"]
    assert choices(found["UNETLoader"], "unet_name") == []
    assert found["SaveImage"]["output_node"] is True
    assert found["KSampler"]["output"] == ["LATENT"]
    assert found["CLIPTextEncode"]["input"]["required"]["text"][1]["multiline"] is True
    assert get(comfy, "/api/object_info/KSampler") == {"KSampler": found["KSampler"]}
    assert get(comfy, "/object_info/None") == {}


@pytest.mark.parametrize("name", sorted(NODES))
def test_every_node_class_is_described(comfy: Running, name: str) -> None:
    info = get(comfy, f"/object_info/{name}")[name]
    assert info.keys() == {
        *("input", "input_order", "output", "output_is_list", "output_name", "name"),
        *("display_name", "description", "python_module", "category", "output_node"),
    }
    assert len(info["output"]) == len(info["output_is_list"]) == len(info["output_name"])
    for group, inputs in info["input"].items():
        assert list(inputs) == info["input_order"][group]
        for one in inputs.values():
            assert isinstance(one[0], str | list)


def test_models(comfy: Running) -> None:
    assert {"checkpoints", "loras", "configs"} <= set(get(comfy, "/models"))
    assert get(comfy, "/models/checkpoints") == ["tiny"]
    assert get(comfy, "/models/loras") == ["detail", "style"]
    assert get(comfy, "/models/embeddings") == get(comfy, "/embeddings") == ["easy"]
    assert get(comfy, "/models/configs") == []
    response = comfy.client.get("/models/none")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "unknown_model"


def test_system(comfy: Running) -> None:
    comfy.worker.report()
    stats = get(comfy, "/system_stats")
    assert stats["system"]["os"]
    assert [device["index"] for device in stats["devices"]] == [0]
    assert get(comfy, "/features")["max_upload_size"] == MAX_BODY_BYTES
    assert get(comfy, "/extensions") == []


def test_history_is_short(comfy: Running) -> None:
    """Some front ends read all of it ten times in a second."""
    ids = [queue(comfy.client, text_to_image(seed=seed)) for seed in range(3)]
    for one in ids:
        ended(comfy.client, one)
    found = list(get(comfy, "/history"))
    assert len(found) <= 20
    assert found[-3:] == ids
    assert list(get(comfy, "/history?max_items=2")) == ids[-2:]
    assert list(get(comfy, "/history?max_items=1&offset=1")) == ids[-2:-1]
    assert get(comfy, "/history?max_items=0") == {}
    assert comfy.client.get("/history?max_items=x").status_code == 400


def test_front_of_the_queue(comfy: Running) -> None:
    comfy.worker.hold()
    try:
        one = queue(comfy.client, text_to_image())
        urgent = queue(comfy.client, text_to_image(), front=True)
        own = queue(comfy.client, text_to_image(), number=7)
        numbers = {item[1]: item[0] for item in get(comfy, "/queue")["queue_pending"]}
        assert numbers[urgent] < 0 < numbers[one]
        assert numbers[own] == 7
    finally:
        comfy.worker.release()
    for prompt_id in (one, urgent, own):
        ended(comfy.client, prompt_id)


def test_secrets_and_layouts_are_not_kept(comfy: Running) -> None:
    extra = {"api_key_comfy_org": "secret", "extra_pnginfo": {"workflow": {}}, "mine": 5}
    item = ended(comfy.client, queue(comfy.client, text_to_image(), extra_data=extra))
    assert item["prompt"][3] == {"mine": 5}


BODIES = {
    "empty": b"",
    "space": b" \n",
    "a list": b"[]",
    "broken": b'{"prompt": ',
    "not UTF-8": b'{"prompt": "\xff"}',
    "NaN": b'{"prompt": {"1": NaN}}',
    "an id twice": b'{"prompt": {"1": {}, "1": {}}}',
    "deep": b'{"prompt": {"1": {"class_type": "KSampler", "inputs": {"x": '
    + b"[" * 5000
    + b"]" * 5000
    + b"}}}}",
    "many nodes": json.dumps(
        {"prompt": {str(i): {"class_type": "VAEDecode"} for i in range(MAX_NODES + 1)}}
    ).encode(),
    "half a character": b'{"prompt": {"1": {"class_type": "\\ud800"}}}',
    "a client_id": b'{"prompt": {}, "client_id": 5}',
    "a number": b'{"prompt": {}, "number": 1e300}',
    "targets": b'{"prompt": {}, "partial_execution_targets": "x"}',
    "too large": b'{"prompt": "' + b"x" * (MAX_BYTES // 2 - 20) + b'"}',
}


@pytest.mark.parametrize("name", BODIES)
def test_hostile_bodies(comfy: Running, name: str) -> None:
    response = comfy.client.post("/prompt", content=BODIES[name])
    assert response.status_code in (400, 413), response.text
    body = response.json()
    assert body.keys() == {"error", "node_errors"}
    assert body["error"].keys() == {"type", "message", "details", "extra_info"}
    assert len(response.content) < 3000


@pytest.mark.parametrize("path", ["/queue", "/history", "/interrupt", "/free"])
@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"delete": "x"}', b'{"delete": [5, null]}', b'{"clear": "x"}']
)
def test_empty_answers(comfy: Running, path: str, body: bytes) -> None:
    response = comfy.client.post(path, content=body)
    assert (response.status_code, response.content) == (200, b"")


def test_too_many_ids(comfy: Running) -> None:
    response = comfy.client.post("/queue", json={"delete": ["x"] * 300})
    assert response.status_code == 400
