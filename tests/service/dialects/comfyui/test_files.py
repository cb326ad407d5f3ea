"""Uploads and views: names, masks, previews, and hostile paths."""

import io
from typing import Any

import pytest
from PIL import Image

from tests.service.conftest import Running
from tests.service.dialects.comfyui.comfy import ended, files, queue, upload
from tests.service.dialects.comfyui.graphs import text_to_image
from tests.service.sample_images import gradient, left_half_white, opened, packed, same


def view(comfy: Running, **query: str) -> Image.Image:
    response = comfy.client.get("/view", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("image/")
    assert response.headers["content-disposition"] == f'filename="{query["filename"]}"'
    return opened(response.content)


def test_names_of_uploads(comfy: Running) -> None:
    """A name that is taken by the same bytes is used again; by others, a number is added."""
    one, other = packed(gradient()), packed(gradient(32, 32))
    place = {"subfolder": "names", "type": "input"}
    assert upload(comfy.client, "a.png", one, subfolder="names") == {"name": "a.png", **place}
    assert upload(comfy.client, "a.png", one, subfolder="names")["name"] == "a.png"
    assert upload(comfy.client, "a.png", other, subfolder="names")["name"] == "a (1).png"
    assert upload(comfy.client, "a.png", other, subfolder="names")["name"] == "a (1).png"
    shown = view(comfy, filename="a (1).png", **place)
    assert same(shown, gradient(32, 32))
    answer = upload(comfy.client, "a.png", other, subfolder="names", overwrite="true")
    assert answer["name"] == "a.png"
    assert same(view(comfy, filename="a.png", **place), gradient(32, 32))
    temporary = upload(comfy.client, "a.png", one, subfolder="names", type="temp")
    assert temporary["type"] == "temp"
    listed = comfy.client.get("/object_info/LoadImage").json()["LoadImage"]["input"]["required"]
    assert {"names/a.png", "names/a (1).png"} <= set(listed["image"][0])


def test_a_mask_is_the_alpha_of_its_image(comfy: Running) -> None:
    upload(comfy.client, "whole.png")
    mask = Image.new("RGBA", (64, 64))
    mask.putalpha(left_half_white())
    response = comfy.client.post(
        "/api/upload/mask",
        data={"original_ref": '{"filename":"whole.png","subfolder":"","type":"input"}'},
        files={"image": ("masked.png", packed(mask))},
    )
    assert response.json() == {"name": "masked.png", "subfolder": "", "type": "input"}
    shown = view(comfy, filename="masked.png", type="input")
    assert same(shown.convert("RGB"), gradient())
    assert same(shown.getchannel("A"), left_half_white())
    assert view(comfy, filename="masked.png", type="input", channel="rgb").mode == "RGB"
    alpha = view(comfy, filename="masked.png", type="input", channel="a")
    assert same(alpha.getchannel("A"), left_half_white())


def test_previews(comfy: Running) -> None:
    item = ended(comfy.client, queue(comfy.client, text_to_image()))
    [place] = item["outputs"]["9"]["images"]
    [whole] = files(comfy.client, item)
    for preview, kind in (("webp;90", "WEBP"), ("jpeg", "JPEG"), ("gif;x", "WEBP")):
        shown = comfy.client.get("/view", params={**place, "preview": preview})
        assert Image.open(io.BytesIO(shown.content)).format == kind
    response = comfy.client.get("/view", params=place)
    assert response.content == whole
    tag = {"If-None-Match": response.headers["etag"]}
    assert comfy.client.get("/view", params=place, headers=tag).status_code == 304


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"filename": ""}, 400),
        ({"filename": "../../etc/passwd"}, 400),
        ({"filename": "/etc/passwd"}, 400),
        ({"filename": "..", "subfolder": ".."}, 400),
        ({"filename": "a.png", "subfolder": "../.."}, 400),
        ({"filename": "a.png", "subfolder": "x/../../y"}, 400),
        ({"filename": "a.png", "type": "home"}, 400),
        ({"filename": "a" * 500}, 400),
        ({"filename": "none.png"}, 404),
        ({"filename": f"ComfyUI_{'0' * 32}_00001_.png"}, 404),
        ({"filename": "ComfyUI_00001_.png"}, 404),
        ({"filename": "none.png", "type": "input"}, 404),
    ],
)
def test_hostile_views(comfy: Running, query: dict[str, str], status: int) -> None:
    response = comfy.client.get("/view", params=query)
    assert response.status_code == status
    assert response.json().keys() == {"error", "node_errors"}


def test_names_of_results_cannot_be_counted_up(comfy: Running) -> None:
    """Another number, or another job, is no file."""
    item = ended(comfy.client, queue(comfy.client, text_to_image()))
    [place] = item["outputs"]["9"]["images"]
    for name in (
        place["filename"].replace("00001", "00002"),
        place["filename"].replace("00001", "00000"),
        place["filename"].replace(comfy.worker.jobs[-1], "f" * 32),
    ):
        assert comfy.client.get("/view", params={"filename": name}).status_code == 404


IMAGE = packed(gradient())


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("../../x.png", IMAGE, {}),
        ("a/b.png", IMAGE, {}),
        ("a\\b.png", IMAGE, {}),
        ("..", IMAGE, {}),
        (".png", IMAGE, {}),
        ("x" * 200 + ".png", IMAGE, {}),
        ("a.png", IMAGE, {"subfolder": ".."}),
        ("a.png", IMAGE, {"subfolder": "x/../.."}),
        ("a.png", IMAGE, {"subfolder": "x" * 200}),
        ("a.png", IMAGE, {"type": "output"}),
        ("a.png", b"GIF89a", {}),
        ("a.png", b"<svg/>", {}),
        ("a.png", b"", {}),
    ],
)
def test_hostile_uploads(comfy: Running, name: str, data: bytes, form: dict[str, str]) -> None:
    response = comfy.client.post("/upload/image", data=form, files={"image": (name, data)})
    assert response.status_code == 400, response.text
    assert response.json().keys() == {"error", "node_errors"}


@pytest.mark.parametrize(
    "reference",
    [
        *("", "x", "[]", "null", "{}", '{"filename": 5}', '{"filename": "none.png"}'),
        *('{"filename": "../x", "type": "input"}', '{"filename": "x", "subfolder": "../y"}'),
        '{"filename": "whole.png", "type": {}}',
    ],
)
def test_hostile_references(comfy: Running, reference: str) -> None:
    image: Any = {"image": ("mask.png", IMAGE)}
    answer = comfy.client.post("/upload/mask", data={"original_ref": reference}, files=image)
    assert answer.status_code == 400, answer.text


def test_not_a_form(comfy: Running) -> None:
    for path in ("/upload/image", "/upload/mask"):
        assert comfy.client.post(path, content=b"x").status_code == 400
        assert comfy.client.post(path, data={"image": "x"}).status_code == 400
