"""The lists that clients read at connect."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.dialects.automatic1111 import AUTOMATIC1111
from tests.service.conftest import Running, running
from tests.service.dialects.automatic1111.webui import WEBUI_CARD, get
from tests.support.redis_server import RedisServer

NOTHING = {"model_name": None, "model_path": None, "model_url": None}


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, WEBUI_CARD) as service:
        yield service


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "sd-models",
            [
                {
                    "title": "tiny",
                    "model_name": "tiny",
                    "hash": None,
                    "sha256": None,
                    "filename": "tiny",
                    "config": None,
                }
            ],
        ),
        (
            "upscalers",
            [
                {"name": "None", **NOTHING, "scale": 4.0},
                {"name": "Lanczos", **NOTHING, "scale": 4.0},
                {"name": "Nearest", **NOTHING, "scale": 4.0},
                {"name": "4x-net", **NOTHING, "model_name": "4x-net", "scale": 4.0},
            ],
        ),
        ("loras", [{"name": "detail", "alias": "detail", "path": "detail", "metadata": {}}]),
        ("scripts", {"txt2img": ["controlnet"], "img2img": ["controlnet"]}),
        ("/controlnet/model_list", {"model_list": ["canny", "depth"]}),
        ("/controlnet/model_list?update=true", {"model_list": ["canny", "depth"]}),
        ("/controlnet/settings", {"control_net_unit_count": 4}),
        *(
            (path, [])
            for path in (
                *("sd-vae", "sd-modules", "hypernetworks", "face-restorers", "prompt-styles"),
                *("realesrgan-models", "script-info", "extensions"),
            )
        ),
    ],
)
def test_lists(webui: Running, path: str, expected: Any) -> None:
    assert get(webui.client, path) == expected


def test_samplers_and_schedulers(webui: Running) -> None:
    samplers = {one["name"]: one for one in get(webui.client, "samplers")}
    assert list(samplers) == ["DDIM", "Euler", "Euler a", "DPM++ 2M", "Heun"]
    assert "k_euler_a" in samplers["Euler a"]["aliases"]
    assert all(isinstance(one["options"], dict) for one in samplers.values())
    schedulers = {one["name"]: one["label"] for one in get(webui.client, "schedulers")}
    assert schedulers == {
        "automatic": "Automatic",
        "uniform": "Uniform",
        "karras": "Karras",
        "sgm_uniform": "SGM Uniform",
        "normal": "Normal",
    }


def test_every_listed_sampler_and_scheduler_works(webui: Running) -> None:
    for sampler in get(webui.client, "samplers"):
        for scheduler in get(webui.client, "schedulers"):
            body = {"prompt": "x", "sampler_name": sampler["name"], "scheduler": scheduler["name"]}
            response = webui.client.post("/sdapi/v1/txt2img", json={**body, "send_images": False})
            assert response.status_code == 200, (body, response.text)


def test_every_listed_way_to_scale_up_works(webui: Running) -> None:
    modes = get(webui.client, "latent-upscale-modes")
    assert [mode["name"] for mode in modes] == [
        "Latent",
        "Latent (antialiased)",
        "Latent (bicubic)",
        "Latent (nearest)",
        "Latent (nearest-exact)",
        "Latent (bicubic antialiased)",
    ]
    for mode in modes + get(webui.client, "upscalers"):
        body = {"prompt": "x", "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": mode["name"]}
        response = webui.client.post("/sdapi/v1/txt2img", json=body)
        assert response.status_code == 200, (mode, response.text)


def test_other_answers_have_the_shapes_that_clients_read(webui: Running) -> None:
    embeddings = get(webui.client, "embeddings")
    assert embeddings["loaded"].keys() == {"easy"}
    assert embeddings["skipped"] == {}
    assert isinstance(get(webui.client, "/controlnet/version")["version"], int)
    assert get(webui.client, "memory").keys() == {"ram", "cuda"}
    assert get(webui.client, "cmd-flags")["api"]
    assert isinstance(get(webui.client, "/config"), dict)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("skip", "null"),
        ("interrupt", "{}"),
        ("refresh-checkpoints", "null"),
        ("refresh-loras", "null"),
        ("refresh-vae", "null"),
        ("refresh-embeddings", "null"),
        ("unload-checkpoint", "{}"),
        ("reload-checkpoint", "{}"),
    ],
)
def test_answers_without_content_are_json(webui: Running, path: str, answer: str) -> None:
    """An empty body, or a 204, breaks clients that parse every answer."""
    bodies: list[dict[str, Any]] = [{"content": b""}, {"json": {}}]
    for body in bodies:
        response = webui.client.post(f"/sdapi/v1/{path}", **body)
        assert (response.status_code, response.text) == (200, answer)


def test_the_paths_that_cost_nothing_are_routes(webui: Running) -> None:
    paths = webui.app.openapi()["paths"]
    assert AUTOMATIC1111.uncounted <= {path for path in paths if "post" in paths[path]}
