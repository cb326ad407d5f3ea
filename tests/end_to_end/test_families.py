"""Each family of published models over HTTP, and the refusals of others: one stack for all.

The stack has every family in its models config, with narrow networks, and a hub on loopback, whose
repositories are refused when they are to be installed.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.models.checkpoints.loopback_hub import Hub, Repository, serving
from tests.models.published.families import Published, write
from tests.models.published.test_families import FAMILIES
from tests.support.local_stack import running_stack

PATIENCE_S = 180.0  # how long an install may take; no test measures it
SIZE = 32
SAMPLE = {"sd2", "sd2-depth", "x4-upscaler", "instruct-pix2pix", "sdxl-instruct-pix2pix", "ssd-1b"}
LONG = pytest.mark.long

TRANSFORMERS = {
    "StableDiffusion3Pipeline": "Stable Diffusion 3",
    "FluxPipeline": "Flux",
    "ChromaPipeline": "Chroma",
    "PixArtSigmaPipeline": "PixArt",
    "SanaPipeline": "Sana",
    "AuraFlowPipeline": "AuraFlow",
    "Lumina2Pipeline": "Lumina",
    "HunyuanDiTPipeline": "HunyuanDiT",
    "QwenImagePipeline": "Qwen-Image",
    "WanPipeline": "Wan",
}
OTHERS = {
    "StableDiffusionImageVariationPipeline": "Stable Diffusion image variations",
    "StableUnCLIPImg2ImgPipeline": "unCLIP",
    "StableVideoDiffusionPipeline": "Stable Video Diffusion",
    "KandinskyV22Pipeline": "Kandinsky",
    "StableCascadeDecoderPipeline": "Stable Cascade",
    "KolorsPipeline": "Kolors",
}
WORDS = {
    **{
        pipeline: f"{name}, a transformer model, and only latent diffusion models with a UNet are "
        "supported"
        for pipeline, name in TRANSFORMERS.items()
    },
    **{pipeline: f"{name}, which is not supported" for pipeline, name in OTHERS.items()},
}
REFUSED = {"FluxPipeline", "KolorsPipeline"}  # the sample


def model_name(published: Published) -> str:
    return published.name.replace("'", "").replace(" ", "-")


def repository(pipeline: str) -> Repository:
    network = "transformer" if pipeline in TRANSFORMERS else "unet"
    index = {"_class_name": pipeline, network: ["diffusers", "A"], "vae": ["diffusers", "B"]}
    return Repository(
        {
            "model_index.json": json.dumps(index).encode(),
            f"{network}/config.json": b"{}",
            f"{network}/diffusion_pytorch_model.safetensors": b"weights that nobody reads",
        }
    )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("families")
    entries = []
    for published in FAMILIES:
        (folder / model_name(published)).mkdir()
        source = write(published, folder / model_name(published))
        entries.append(f'[models.{model_name(published)}]\nsource = "{source}"\n')
    config = folder / "models.toml"
    config.write_text("\n".join(entries), "utf-8")
    with serving(Hub({f"owner/{name}": repository(name) for name in WORDS})) as hub:
        settings = {
            "DARKROOM_CATALOGUE": str(config),
            "DARKROOM_INSTALL_OWNERS": "owner",
            "DARKROOM_MODELS_HOME": str(folder / "home"),
            "DARKROOM_WORKER_HEARTBEAT_S": "0.3",
            "HF_HOME": str(folder / "hub"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        with running_stack(**settings) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client


def encoded(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def shown(side: int) -> str:
    return encoded(Image.linear_gradient("L").resize((side, side)).convert("RGB"))


def request_of(published: Published) -> tuple[str, dict[str, Any]]:
    """Return the route and the fields of a request."""
    if published.is_edit:
        return "img2img", {"image": shown(SIZE), "image_guidance_scale": 1.7}
    if published.reads_depth:
        depth = encoded(Image.radial_gradient("L").resize((SIZE, SIZE)))
        return "img2img", {"image": shown(SIZE), "depth_map": depth, "strength": 1}
    if published.upscales:
        return "upscale", {"image": shown(SIZE // 4), "noise_level": 100}
    if published.is_inpainting:
        mask = encoded(Image.new("L", (SIZE, SIZE), 255))
        return "inpaint", {"image": shown(SIZE), "mask": mask}
    return "txt2img", {}


def marked(published: Published) -> Any:
    return pytest.param(
        published, id=published.name, marks=() if published.name in SAMPLE else LONG
    )


@pytest.mark.parametrize("published", [*map(marked, FAMILIES)])
def test_family_generates_an_image(client: httpx.Client, published: Published) -> None:
    route, fields = request_of(published)
    cards = {card["name"]: card for card in client.get("/v1/models").json()["models"]}
    assert route in cards[model_name(published)]["tasks"]
    fields |= {"prompt": "the red cat", "model": model_name(published), "steps": 2, "seed": 7}
    responses = [client.post(f"/v1/{route}", json=fields) for _ in range(2)]
    for response in responses:
        assert response.status_code == 200, response.text
    first, again = (response.json()["images"][0] for response in responses)
    assert first["base64"] == again["base64"]
    image = Image.open(io.BytesIO(base64.b64decode(first["base64"])))
    assert image.size == (SIZE, SIZE)
    assert np.asarray(image).std() > 1
    request = json.loads(image.info["darkroom"])
    assert (request["task"], request["model"]) == (route, model_name(published))
    for name in ("image_guidance_scale", "noise_level"):
        assert request.get(name) == fields.get(name)


def test_each_input_is_refused_by_the_models_that_do_not_read_it(client: httpx.Client) -> None:
    depth = {"depth_map": shown(SIZE)}
    for model, route, fields, words in (
        ("sd2", "img2img", {"image_guidance_scale": 2}, "sd2 does not edit images"),
        ("sd2-depth", "img2img", {}, "sd2-depth is conditioned on the depth of the image"),
        ("sd2", "img2img", depth, "sd2 reads no depth map"),
        ("x4-upscaler", "upscale", {"noise_level": 351}, "at most 350"),
        ("instruct-pix2pix", "txt2img", {}, "instruct-pix2pix does img2img"),
    ):
        image = {} if route == "txt2img" else {"image": shown(SIZE)}
        body = {"prompt": "the red cat", "model": model, **image, **fields}
        response = client.post(f"/v1/{route}", json=body)
        assert response.status_code == 422, response.text
        assert words in response.json()["detail"]


@pytest.mark.parametrize(
    "pipeline",
    [pytest.param(name, marks=() if name in REFUSED else LONG) for name in WORDS],
)
def test_model_of_another_kind_is_refused_by_name(client: httpx.Client, pipeline: str) -> None:
    submitted = client.post("/v1/models", json={"source": f"owner/{pipeline}"})
    assert submitted.status_code == 202, submitted.text
    deadline = time.monotonic() + PATIENCE_S
    while (found := client.get(f"/v1/models/installs/{submitted.json()['id']}").json())[
        "state"
    ] not in ("finished", "failed"):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    assert found["state"] == "failed"
    assert f"{pipeline} is {WORDS[pipeline]}" in found["error"]
