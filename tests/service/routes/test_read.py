"""POST /v1/read: recipes of Darkroom and of other programs, and hostile files."""

from __future__ import annotations

import base64
import io
import json
import struct
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import piexif
import piexif.helper
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_parsers.parsers import ComfyUIParser, FooocusParser, InvokeAIParser, NovelAIParser, Parser

from protocol.auth.api_keys import Scope
from protocol.errors import InvalidRequest
from protocol.recipes.infotext import parse_infotext
from service.recipes.file_texts import MAX_TEXT_BYTES
from service.recipes.reader import read_recipe
from tests.service.conftest import running
from tests.service.keys import key_for
from tests.support.redis_server import RedisServer

A1111 = (
    "a cat ♥\nNegative prompt: dogs\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5, "
    "Size: 512x768, Model: v1-5, Clip skip: 2, Version: v1.6.0"
)
A1111_REQUEST = {
    "prompt": "a cat ♥", "negative_prompt": "dogs", "steps": 20, "sampler": "dpmpp_2m",
    "schedule": "karras", "guidance_scale": 7, "seed": 5, "width": 512, "height": 768,
    "model": "v1-5", "clip_skip": 1,
}  # fmt: skip
INVOKEAI = {
    "invokeai_metadata": json.dumps(
        {
            "generation_mode": "txt2img", "positive_prompt": "a cat", "negative_prompt": "dogs",
            "width": 512, "height": 512, "seed": 5, "cfg_scale": 7.5, "steps": 30,
            "scheduler": "euler", "model": {"name": "sd-1", "base": "sd-1", "key": "1"},
        }
    )
}  # fmt: skip
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal",
        "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
        "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "dogs", "clip": ["4", 1]}},
}  # fmt: skip
LINKS = [[1, 4, 0, 3, 0, "MODEL"], [3, 6, 0, 3, 1, "CONDITIONING"],
         [4, 7, 0, 3, 2, "CONDITIONING"], [5, 5, 0, 3, 3, "LATENT"]]  # fmt: skip
COMFYUI = {"prompt": json.dumps(GRAPH), "workflow": json.dumps({"links": LINKS})}
NOVELAI = {
    "Title": "AI generated image", "Description": "a cat", "Software": "NovelAI",
    "Source": "Stable Diffusion 1D44365E",
    "Comment": json.dumps({"steps": 28, "sampler": "k_euler", "seed": 5, "scale": 11.0,
                           "strength": 0.7, "noise": 0.2, "uc": "dogs"}),
}  # fmt: skip
FOOOCUS = {
    "parameters": json.dumps(
        {"base_model": "juggernaut", "base_model_hash": "ab", "prompt": "a cat", "seed": 5,
         "negative_prompt": "dogs", "sampler": "dpmpp_2m", "scheduler": "karras", "steps": 30,
         "guidance_scale": 4.0, "sharpness": 2.0}
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def client(redis_server: RedisServer) -> Iterator[httpx.Client]:
    with running(redis_server.url) as service:
        yield service.client


def png(texts: Mapping[str, str], *, compressed: bool = False) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text, zip=compressed)
    return saved("PNG", pnginfo=info)


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes) -> bytes:
    """Return a PNG with further chunks after its head."""
    whole = saved("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def exif_comment(text: str) -> bytes:
    value = piexif.helper.UserComment.dump(text, encoding="unicode")
    block: bytes = piexif.dump({"Exif": {piexif.ExifIFD.UserComment: value}})
    return block


def read(client: httpx.Client, file: bytes) -> dict[str, Any]:
    body = {"image": base64.b64encode(file).decode()}
    response = client.post("/v1/read", json=body)
    assert response.status_code == 200, response.text
    found = response.json()
    assert isinstance(found, dict)
    return found


FILES = {
    "png": png({"parameters": A1111}),
    "compressed png": png({"parameters": A1111}, compressed=True),
    "jpeg": saved("JPEG", exif=exif_comment(A1111)),
    "webp": saved("WEBP", exif=exif_comment(A1111)),
    "avif": saved("AVIF", exif=exif_comment(A1111)),
}


@pytest.mark.parametrize("kind", FILES)
def test_infotext_is_read_from_each_format(client: httpx.Client, kind: str) -> None:
    found = read(client, FILES[kind])
    assert (found["source"], found["task"], found["needs"]) == ("automatic1111", "txt2img", [])
    output = {} if "png" in kind else {"output_format": kind}
    if kind == "avif" and "output_format" not in found["request"]:
        output = {}  # a format that is read, but not written
    assert found["request"] == A1111_REQUEST | output
    assert found["parameters"] == dict(parse_infotext(A1111).parameters)
    assert found["texts"] == {"parameters": A1111}


def test_file_of_a_form_is_read(client: httpx.Client) -> None:
    response = client.post("/v1/read", files={"image": ("a.png", FILES["png"], "image/png")})
    assert response.json()["request"] == A1111_REQUEST


def test_nothing_is_stored_or_queued(redis_url: str) -> None:
    with running(redis_url) as service:
        read(service.client, FILES["png"])
        later = datetime.now(UTC) + timedelta(days=1)
        assert [key for page in service.store.older_than("inputs", later) for key in page] == []
        assert service.worker.seen == []


OTHERS: dict[str, tuple[Mapping[str, str], type[Parser]]] = {
    "invokeai": (INVOKEAI, InvokeAIParser),
    "comfyui": (COMFYUI, ComfyUIParser),
    "novelai": (NOVELAI, NovelAIParser),
    "fooocus": (FOOOCUS, FooocusParser),
}


@pytest.mark.parametrize("source", OTHERS)
def test_other_programs_are_read_as_by_another_package(client: httpx.Client, source: str) -> None:
    texts, parser = OTHERS[source]
    found = read(client, png(texts))
    assert found["source"] == source
    assert "request" not in found
    parameters = found["parameters"]
    [sampler] = parser().parse(dict(texts)).samplers
    [prompt] = sampler.prompts
    [negative] = sampler.negative_prompts
    assert prompt.value in (parameters.get("prompt"), parameters.get("positive_prompt"))
    assert negative.value in (parameters.get("negative_prompt"), parameters.get("uc"))
    names = ("sampler", "sampler_name", "scheduler")
    assert sampler.name in [parameters.get(name) for name in names]
    assert str(sampler.parameters["seed"]) == str(parameters["seed"])
    if sampler.model is not None and source != "novelai":
        assert sampler.model.name in (parameters.get("model"), parameters.get("base_model"))


def test_prompt_and_model_are_found_behind_other_nodes(client: httpx.Client) -> None:
    link = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["7", 0]}}
    lora = {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "model": ["4", 0]}}
    sampler: dict[str, Any] = {**GRAPH["3"]}
    sampler["inputs"] = sampler["inputs"] | {"negative": ["8", 0], "model": ["10", 0]}
    graph = GRAPH | {"3": sampler, "8": link, "10": lora}
    found = read(client, png({"prompt": json.dumps(graph)}))["parameters"]
    assert (found["prompt"], found["negative_prompt"]) == ("a cat", "dogs")
    assert found["model"] == "v1-5.safetensors"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "GIF"])
def test_image_without_a_recipe_has_no_source(client: httpx.Client, kind: str) -> None:
    file = saved(kind)
    if kind == "GIF":
        response = client.post("/v1/read", files={"image": ("a.gif", file)})
        assert response.status_code == 422
        assert response.json()["bound"] == "a PNG, JPEG, WEBP or AVIF file"
    else:
        assert read(client, file) == {"needs": [], "parameters": {}, "texts": {}}


BOMB = zlib.compress(bytes(MAX_TEXT_BYTES * 25))
EXIF = exif_comment(A1111)
LOOP = {str(i): {"inputs": {"steps": 1, "positive": [str(i + 1), 0]}} for i in range(5000)}
LOOP["5000"] = {"inputs": {"steps": 1, "positive": ["0", 0]}}
HOSTILE = {
    "a bomb in zTXt": with_chunks(chunk(b"zTXt", b"parameters\0\0" + BOMB)),
    "a bomb in iTXt": with_chunks(chunk(b"iTXt", b"prompt\0\1\0\0\0" + BOMB)),
    "many bombs": with_chunks(*[chunk(b"zTXt", b"a\0\0" + BOMB)] * 4),
    "broken zTXt": with_chunks(chunk(b"zTXt", b"parameters\0\0" + b"x" * 100)),
    "empty chunks": with_chunks(*[chunk(kind, b"") for kind in (b"tEXt", b"zTXt", b"iTXt")]),
    "ten thousand chunks": with_chunks(*[chunk(b"tEXt", b"k%d\0v" % i) for i in range(10_000)]),
    "thirty thousand chunks": with_chunks(*[chunk(b"tEXt", b"k\0v")] * 30_000),
    "a chunk longer than the file": saved("PNG")[:33] + b"\xff\xff\xff\xfftEXtparameters\0x",
    "a long keyword": with_chunks(chunk(b"tEXt", b"k" * 5000 + b"\0v")),
    "NUL and surrogates": with_chunks(
        chunk(b"iTXt", b"parameters\0\0\0\0\0a\0b\xed\xa0\x80\nSteps: 1, Seed: 2, Size: 8x8")
    ),
    "deep JSON": with_chunks(
        *[
            chunk(b"tEXt", key + b"\0" + b"[" * 100_000)
            for key in (b"darkroom", b"prompt", b"invokeai_metadata", b"sd-metadata")
        ]
    ),
    "NaN and a huge number": png(
        {"invokeai_metadata": '{"a":NaN,"b":1e999,"c":' + "9" * 4000 + ',"d":-Infinity,"e":1}'}
    ),
    "a graph in a circle": png({"prompt": json.dumps(LOOP), "workflow": "{}"}),
    "links of other types": png(
        {"prompt": '{"1":{"inputs":{"steps":1,"positive":[[],0],"negative":[{},1]}},"2":3}'}
    ),
    "JSON of other types": png({"prompt": "[]", "Comment": "3", "sd-metadata": '{"image":[1]}'}),
    "our JSON of other types": png({"darkroom": '{"task":"txt2img","n":[]}'}),
    "truncated Exif": saved("JPEG", exif=EXIF[:30]),
    "Exif that points to itself": saved(
        "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08"
    ),
    "Exif of huge counts": saved(
        "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x92\x86\0\x07" + b"\xff" * 8
    ),
    "endless WebP": b"RIFF\0\0\0\0WEBP" + b"EXIF\0\0\0\0" * 50_000,
    "broken AVIF": saved("AVIF")[:60],
    "nothing but heads": b"\x89PNG\r\n\x1a\n",
    "a long infotext": png({"parameters": "a" * 500_000 + "\nab:" + '"\\' * 100_000}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_answered(client: httpx.Client, name: str) -> None:
    response = client.post("/v1/read", files={"image": ("a", HOSTILE[name])})
    if response.status_code == 200:
        assert "request" not in response.json() or name == "NUL and surrogates"
    else:
        assert response.status_code in (413, 422)
        assert response.json()["field"] == "image"
        assert response.json()["bound"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with suppress(InvalidRequest):
            read_recipe("image", HOSTILE[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * MAX_TEXT_BYTES


def test_read_needs_the_scope_and_counts_as_a_request_without_pixels(redis_url: str) -> None:
    body = {"image": base64.b64encode(FILES["png"]).decode()}
    with running(redis_url, auth="required") as service:
        reader = key_for(service, Scope.READ)
        key = key_for(service, requests_per_minute=2, pixel_steps_per_minute=1)
        post = partial(service.client.post, "/v1/read", json=body)
        assert [post().status_code, post(headers=reader).status_code] == [401, 403]
        assert [post(headers=key).status_code for _ in range(3)] == [200, 200, 429]


def test_image_of_an_address_is_read_through_the_guard(redis_url: str) -> None:
    with running(redis_url) as service:
        refused = service.client.post("/v1/read", json={"image_url": "https://example.org/a.png"})
        assert (refused.status_code, refused.json()["field"]) == (422, "image_url")
    with running(redis_url, image_urls=True) as service:
        inside = service.client.post("/v1/read", json={"image_url": "http://127.0.0.1/a.png"})
        assert (inside.status_code, inside.json()["field"]) == (422, "image_url")


@pytest.mark.parametrize("body", [{}, {"image": ""}, {"image": 3}, {"image": "AA==", "n": 1}])
def test_wrong_body_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    response = client.post("/v1/read", json=body)
    assert (response.status_code, bool(response.json()["field"])) == (422, True)
