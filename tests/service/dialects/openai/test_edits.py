"""POST /v1/images/edits and /v1/images/variations."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from protocol.request.request import GenerationRequest, Task
from tests.service.conftest import Running
from tests.service.sample_images import gradient, in_base64, opened, packed, same

EDITS, VARIATIONS = "/v1/images/edits", "/v1/images/variations"
SIZE = (64, 48)
IMAGE = packed(gradient(*SIZE))
Files = list[tuple[str, tuple[str, bytes, str]]]


NO_FILE: Files = [("unused", ("", b"", "application/octet-stream"))]  # for a multipart form


def transparent_left(size: tuple[int, int] = SIZE, rest: int = 255) -> bytes:
    """Return a PNG whose left half is fully transparent, and its right half of opacity `rest`."""
    image = Image.new("RGBA", size, (200, 10, 10, rest))
    image.paste((0, 255, 0, 0), (0, 0, size[0] // 2, size[1]))
    return packed(image)


def file(name: str, data: bytes) -> tuple[str, tuple[str, bytes, str]]:
    return name, ("blob", data, "application/octet-stream")


def edited(
    service: Running, files: Files, path: str = EDITS, **fields: str
) -> tuple[dict[str, Any], GenerationRequest]:
    """Return the answer to a form, and the request that the worker got."""
    prompt = {"prompt": "a cat"} if path == EDITS else {}
    response = service.client.post(path, data={**prompt, **fields}, files=files)
    assert response.status_code == 200, response.text
    return response.json(), service.worker.seen[-1]


def result(answer: dict[str, Any]) -> Image.Image:
    return opened(answer["data"][0]["b64_json"])


def is_red(image: Image.Image) -> np.ndarray:
    """Return which pixels the fake worker has inpainted."""
    pixels = np.asarray(image.convert("RGB"))
    return np.all(pixels == (255, 0, 0), axis=-1)


def refused(service: Running, files: Files, path: str = EDITS, **fields: str) -> dict[str, Any]:
    response = service.client.post(path, data={"prompt": "a cat", **fields}, files=files)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]"])
def test_without_a_mask_the_whole_image_changes(openai: Running, name: str) -> None:
    answer, request = edited(openai, [file(name, IMAGE)], seed="3", n="2", strength="0.5")
    assert request.task is Task.IMG2IMG
    assert (request.strength, request.n, request.seed) == (0.5, 2, 3)
    assert same(result(answer), gradient(*SIZE))  # the fake worker gives the input image
    assert answer["size"] == "64x48"
    assert len(answer["data"]) == 2
    assert edited(openai, [file(name, IMAGE)])[1].strength == 0.75  # the default of the model


def test_what_is_fully_transparent_in_the_mask_is_generated(openai: Running) -> None:
    for rest in (255, 1):
        files = [file("image", IMAGE), file("mask", transparent_left(rest=rest))]
        answer, request = edited(openai, files)
        assert request.task is Task.INPAINT
        assert request.strength == 1.0
        expected = np.zeros(SIZE[::-1], bool)
        expected[:, :32] = True
        assert np.array_equal(is_red(result(answer)), expected)
        kept = np.asarray(result(answer))[:, 32:]
        assert np.array_equal(kept, np.asarray(gradient(*SIZE))[:, 32:])


def test_a_mask_of_another_file_format_and_palette(openai: Running) -> None:
    image = opened(transparent_left())
    palette = image.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    for mask in (packed(image, "WEBP", lossless=True, exact=True), packed(palette)):
        answer, _ = edited(openai, [file("image", IMAGE), file("mask", mask)])
        red = is_red(result(answer))
        assert red[:, :32].all()
        assert not red[:, 32:].any()


@pytest.mark.parametrize(
    ("files", "fields", "param", "code"),
    [
        ([], {}, "image", "missing_required_parameter"),
        ([file("image", b"no image")], {}, "image", "broken_image"),
        ([file("image", b"")], {}, "image", "empty_file"),
        ([file("image", IMAGE)] * 17, {}, "image", "too_many"),
        ([file("image", IMAGE), file("mask", IMAGE)], {}, "mask", "no_transparency"),
        (
            [file("image", IMAGE), file("mask", packed(Image.new("RGBA", SIZE, (0, 0, 0, 9))))],
            {},
            "mask",
            "no_transparency",
        ),
        (
            [file("image", IMAGE), file("mask", transparent_left((48, 64)))],
            {},
            "mask",
            "mask_size",
        ),
        (
            [file("image", IMAGE), file("image", IMAGE), file("mask", transparent_left())],
            {},
            "image",
            "too_many",
        ),
        (
            [file("image", IMAGE), *(file(n, transparent_left()) for n in ("mask", "markup"))],
            {},
            "markup",
            "not_together",
        ),
        ([file("image", IMAGE), file("markup", IMAGE)], {}, "markup", "no_transparency"),
        ([file("image", IMAGE)], {"n": "11"}, "n", "invalid_value"),
        ([file("image", IMAGE)], {"size": "1024x1024"}, "size", "invalid_size"),
        ([file("image", IMAGE)], {"model": "nope"}, "model", "model_not_found"),
        ([file("image", IMAGE)], {"mask_blur": "900"}, "mask_blur", "invalid_value"),
        ([file("image", IMAGE)], {"lora[name]": "ink"}, "lora", "unknown_lora"),
    ],
)
def test_what_is_refused(
    openai: Running, files: Files, fields: dict[str, str], param: str, code: str
) -> None:
    response = openai.client.post(EDITS, data={"prompt": "a cat", **fields}, files=files or NO_FILE)
    assert response.status_code == (404 if code == "model_not_found" else 400), response.text
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error


def test_an_edit_needs_a_prompt(openai: Running) -> None:
    response = openai.client.post(EDITS, files=[file("image", IMAGE)])
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "missing_required_parameter"


def test_several_images_are_put_side_by_side(openai: Running) -> None:
    colours = ["red", "green", "blue"]
    images = [packed(Image.new("RGB", (50, 40), colour)) for colour in colours]
    for name in ("image", "image[]"):
        answer, request = edited(openai, [file(name, image) for image in images], size="96x32")
        assert request.task is Task.IMG2IMG
        canvas = result(answer)
        assert canvas.size == (96, 32)
        centres = [canvas.getpixel((16 + 32 * column, 16)) for column in range(3)]
        assert centres == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert result(edited(openai, [file("image", image) for image in images])[0]).size == (64, 64)
    sides = {"width": "32", "height": "48"}
    assert result(edited(openai, [file("image", IMAGE)] * 2, **sides)[0]).size == (32, 48)


def test_markup_is_put_over_the_image(openai: Running) -> None:
    over = Image.new("RGBA", SIZE)
    over.paste((0, 0, 255, 255), (0, 0, 10, 10))
    answer, request = edited(openai, [file("image", IMAGE), file("markup", packed(over))])
    assert request.task is Task.IMG2IMG
    expected = gradient(*SIZE)
    expected.paste((0, 0, 255), (0, 0, 10, 10))
    assert same(result(answer), expected)


@pytest.mark.parametrize(
    ("image_size", "fields", "size"),
    [
        ((64, 48), {}, (64, 48)),
        ((64, 48), {"size": "auto"}, (64, 48)),
        ((61, 47), {}, (61, 47)),  # padded, and cut again
        ((400, 300), {"size": "auto"}, (64, 48)),  # too large for the model
        ((64, 48), {"size": "128x64"}, (128, 64)),
        ((64, 48), {"model": "gpt-image-1", "size": "1024x1024"}, (64, 64)),
        ((64, 48), {"width": "32"}, (32, 24)),
    ],
)
def test_sizes_of_edits(
    openai: Running, image_size: tuple[int, int], fields: dict[str, str], size: tuple[int, int]
) -> None:
    image = packed(gradient(*image_size))
    mask = transparent_left(image_size)
    for files in ([file("image", image)], [file("image", image), file("mask", mask)]):
        answer, _ = edited(openai, files, **fields)
        assert answer["size"] == f"{size[0]}x{size[1]}"
        assert result(answer).size == size


def test_an_image_of_another_aspect_is_cut_not_stretched(openai: Running) -> None:
    image = Image.new("RGB", (64, 32), "white")
    image.paste("black", (0, 0, 8, 32))
    answer, _ = edited(openai, [file("image", packed(image))], size="64x64")
    assert np.asarray(result(answer).convert("L")).min() > 200
    stretched, _ = edited(
        openai, [file("image", packed(image))], size="64x64", resize_mode="stretch"
    )
    assert np.asarray(result(stretched).convert("L"))[:, :8].max() < 50


def test_dalle_2_takes_the_transparency_of_the_image_for_a_mask(openai: Running) -> None:
    files = [file("image", transparent_left())]
    fields = {"response_format": "b64_json"}
    answer, request = edited(openai, files, model="dall-e-2", **fields)
    assert request.task is Task.INPAINT
    assert is_red(result(answer))[:, :32].all()
    assert edited(openai, files, model="gpt-image-1", **fields)[1].task is Task.IMG2IMG
    assert edited(openai, files, VARIATIONS, model="dall-e-2", **fields)[1].task is Task.IMG2IMG


def test_images_as_text(openai: Running) -> None:
    text = in_base64(IMAGE)
    for value in (text, f"data:image/png;base64,{text}"):
        for name in ("image", "url", "url[]"):
            answer, _ = edited(openai, NO_FILE, **{name: value})
            assert same(result(answer), gradient(*SIZE))
    error = refused(openai, NO_FILE, image="http://127.0.0.1/x.png")
    assert (error["param"], error["code"]) == ("image", "not_for_this_service")


@pytest.mark.parametrize(
    "images",
    [
        {"images": [{"image_url": "URI"}]},
        {"image": "URI"},
        {"image": ["URI"]},
        {"image_url": {"url": "URI"}},
        {"images": [{"image_url": {"url": "URI"}}], "mask": None},
    ],
)
def test_edits_in_json(openai: Running, images: dict[str, Any]) -> None:
    uri = f"data:image/png;base64,{in_base64(IMAGE)}"
    mask = f"data:image/png;base64,{in_base64(transparent_left())}"
    body = _with(images, uri) | {"prompt": "a cat", "seed": 3}
    response = openai.client.post(EDITS, json=body)
    assert same(result(response.json()), gradient(*SIZE))
    for value in (mask, {"image_url": mask}):
        response = openai.client.post(EDITS, json={**body, "mask": value})
        assert is_red(result(response.json()))[:, :32].all()


def _with(value: Any, uri: str) -> Any:
    match value:
        case "URI":
            return uri
        case dict():
            return {key: _with(inner, uri) for key, inner in value.items()}
        case list():
            return [_with(inner, uri) for inner in value]
    return value


@pytest.mark.parametrize(
    ("images", "code"),
    [
        ([{"file_id": "file-1"}], "not_for_this_service"),
        ([{"image_url": "https://example.org/x.png"}], "not_for_this_service"),
        ([{"image_url": "nonsense!"}], "bad_base64"),
        ([{}], "wrong_type"),
        ([5], "wrong_type"),
        ([[["x"]]], "wrong_type"),
        ([], "missing_required_parameter"),
        (None, "missing_required_parameter"),
    ],
)
def test_refused_in_json(openai: Running, images: object, code: str) -> None:
    response = openai.client.post(EDITS, json={"prompt": "a cat", "images": images})
    assert response.status_code == 400
    expected = {"wrong_type": "invalid_type"}.get(code, code)
    assert response.json()["error"]["code"] == expected, response.text


def test_variations(openai: Running) -> None:
    answer, request = edited(openai, [file("image", IMAGE)], VARIATIONS, n="2")
    assert (request.task, request.prompt) == (Task.IMG2IMG, "")
    assert same(result(answer), gradient(*SIZE))
    assert len(answer["data"]) == 2
    prompted = edited(openai, [file("image", IMAGE)], VARIATIONS, prompt="a dog")
    assert prompted[1].prompt == "a dog"


def test_accepted_without_effect(openai: Running) -> None:
    plain = edited(openai, [file("image", IMAGE)], seed="1")[1]
    fields = {"input_fidelity": "high", "quality": "high", "user": "u", "background": "auto"}
    assert edited(openai, [file("image", IMAGE)], seed="1", **fields)[1] == plain


def test_a_repeated_field(openai: Running) -> None:
    data = {"prompt": ["a cat", "a dog"]}
    response = openai.client.post(EDITS, data=data, files=[file("image", IMAGE)])
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
