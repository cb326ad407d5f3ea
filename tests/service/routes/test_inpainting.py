"""Options of inpainting and image to image over HTTP, with a fake worker that inpaints in red."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protocol.request.inpainting import PixelBox
from tests.service.conftest import ABLE, Running, running
from tests.service.inpainting import post, red, result_of, sent, square
from tests.service.sample_images import gradient, in_base64, opened, packed
from tests.support.redis_server import RedisServer

CARD = ABLE.model_copy(update={"controlnets": ("canny",)})


@pytest.fixture(scope="module")
def service(redis_server: RedisServer) -> Iterator[Running]:
    bounds = {
        "max_queue_length": 1000,
        "max_queue_per_client": 1000,
        "max_image_pixels": 3000 * 2000,
    }
    with running(redis_server.url, CARD, **bounds) as service:
        yield service


# ---- single options -----------------------------------------------------------------------------


def test_masked_area_is_generated_in_the_models_size(service: Running) -> None:
    image = np.random.default_rng(1).integers(0, 200, (300, 400, 3), np.uint8)
    mask = square(400, 300, 200, 100, 40)
    options = {"inpaint_area": "masked", "mask_padding": 12}
    result = result_of(post(service, "inpaint", image=sent(image), mask=sent(mask), **options))
    seen = service.worker.seen[-1]
    assert seen.paste is not None
    assert (seen.width, seen.height) == (64, 64)
    assert seen.paste.box == PixelBox(left=188, top=88, width=64, height=64)
    assert seen.image_key is not None
    model_input = np.asarray(opened(service.store.get(seen.image_key)))
    assert np.array_equal(model_input, image[88:152, 188:252])
    assert np.array_equal(np.asarray(result)[mask > 0], red(1600))


def test_an_image_beyond_the_models_bounds_is_refused_with_the_ways_to_send_it(
    service: Running,
) -> None:
    image = np.full((300, 400, 3), 80, np.uint8)
    fields = {"image": sent(image), "mask": sent(square(400, 300, 10, 20, 30))}
    refused = post(service, "inpaint", **fields)
    problem = refused.json()
    assert (refused.status_code, problem["field"], problem["value"]) == (422, "image", "400x300")
    ways = "or sent with inpaint_area masked, or with the width or height, or both, to resize it to"
    assert problem["bound"].endswith(ways)
    assert result_of(post(service, "inpaint", **fields, inpaint_area="masked")).size == (400, 300)
    assert result_of(post(service, "inpaint", **fields, width=64)).size == (64, 48)
    other = post(service, "inpaint", **fields, resize_mode="crop").json()["bound"]
    assert "inpaint_area" not in other  # does not go with a resize_mode
    assert "inpaint_area" not in post(service, "img2img", image=sent(image)).json()["bound"]


def test_masked_area_of_an_image_far_larger_than_the_model(service: Running) -> None:
    image, mask = np.full((2000, 3000, 3), 80, np.uint8), square(3000, 2000, 2200, 1300, 700)
    image[::9, ::7] = 120
    fields = {"image": sent(image), "mask": sent(mask), "inpaint_area": "masked"}
    found = np.asarray(result_of(post(service, "inpaint", **fields)))
    assert found.shape == image.shape
    assert np.array_equal(found[mask == 0], image[mask == 0])
    centre = found[1400:1900, 2300:2800].reshape(-1, 3)  # the edges are scaled with the image's
    assert np.array_equal(centre, red(len(centre)))
    assert (service.worker.seen[-1].width, service.worker.seen[-1].height) == (64, 64)


def test_width_and_height_are_the_size_of_the_masked_area(service: Running) -> None:
    image, mask = np.full((100, 90, 3), 80, np.uint8), square(90, 100, 10, 10, 20)
    size = {"inpaint_area": "masked", "width": 128, "height": 64}
    result = result_of(post(service, "inpaint", image=sent(image), mask=sent(mask), **size))
    assert result.size == (90, 100)
    assert service.worker.seen[-1].width == 128


@pytest.mark.parametrize("blur", [0, 2])
@pytest.mark.parametrize("area", ["whole", "masked"])
def test_transparency_is_the_mask(service: Running, area: str, blur: int) -> None:
    """The hidden colours of transparent pixels are not mixed in."""
    image = np.full((64, 64, 4), 90, np.uint8)
    image[..., 3] = 255
    image[10:20, 30:40, 3] = 0
    fields = {"image": sent(image), "mask_blur": blur, "inpaint_area": area}
    result = result_of(post(service, "inpaint", **fields, mask_source="alpha"))
    assert result.mode == "RGB"
    found = np.asarray(result)
    assert np.array_equal(found[10:20, 30:40].reshape(-1, 3), red(100))
    assert (found[:4] == 90).all()


def test_jpeg_puts_transparency_on_white_and_webp_keeps_it(service: Running) -> None:
    image = np.full((64, 64, 4), 90, np.uint8)
    fields = {"image": sent(image), "mask": sent(square(64, 64, 0, 0, 8))}
    for kind, mode in (("webp", "RGBA"), ("png", "RGBA")):
        assert result_of(post(service, "inpaint", **fields, output_format=kind)).mode == mode


@pytest.mark.parametrize("task", ["img2img", "inpaint"])
@pytest.mark.parametrize(("width", "height"), [(50, 50), (61, 64), (17, 119)])
def test_any_size_is_padded_and_cropped_back(
    service: Running, task: str, width: int, height: int
) -> None:
    image = np.asarray(gradient(width, height))
    mask = {"mask": sent(np.zeros((height, width), np.uint8))} if task == "inpaint" else {}
    result = result_of(post(service, task, image=sent(image), **mask))
    assert np.array_equal(np.asarray(result), image)
    seen = service.worker.seen[-1]
    assert (seen.width, seen.height) == (-(-width // 8) * 8, -(-height // 8) * 8)


@pytest.mark.parametrize(("mode", "codes"), [(None, ["image-stretched"]), ("crop", [])])
def test_stretching_without_being_asked_gives_a_warning(
    service: Running, mode: str | None, codes: list[str]
) -> None:
    image = in_base64(packed(gradient(100, 50)))
    response = post(service, "img2img", image=image, width=64, height=64, resize_mode=mode)
    assert result_of(response).size == (64, 64)
    assert [warning["code"] for warning in response.json()["warnings"]] == codes


def test_a_mask_shrunk_to_nothing_gives_a_warning(service: Running) -> None:
    fields = {"image": in_base64(packed(gradient())), "mask": sent(square(64, 64, 9, 9, 6))}
    response = post(service, "inpaint", **fields, mask_grow=-5)
    assert [warning["code"] for warning in response.json()["warnings"]] == ["mask-empty"]
    assert np.array_equal(np.asarray(result_of(response)), np.asarray(gradient()))


def test_control_image_is_cut_like_the_image(service: Running) -> None:
    image = np.random.default_rng(1).integers(0, 200, (200, 200, 3), np.uint8)
    fields = {
        "image": sent(image),
        "mask": sent(square(200, 200, 80, 80, 20)),
        "inpaint_area": "masked",
        "mask_padding": 22,
        "controls": [{"model": "canny", "image": sent(image)}],
    }
    result_of(post(service, "inpaint", **fields))
    seen = service.worker.seen[-1]
    assert seen.controls[0].image_key == seen.image_key


def test_request_without_options_has_none_of_their_fields(service: Running) -> None:
    fields = {"image": in_base64(packed(gradient())), "mask": sent(square(64, 64, 9, 9, 6))}
    result_of(post(service, "inpaint", **fields))
    text = service.worker.seen[-1].model_dump_json()
    assert "mask_blur" not in text
    assert "paste" not in text


# ---- bounds -------------------------------------------------------------------------------------

WRONG = [
    ({"mask_blur": -1}, "mask_blur", "at least 0"),
    ({"mask_blur": 65}, "mask_blur", "at most 64"),
    ({"mask_grow": -65}, "mask_grow", "at least -64"),
    ({"mask_grow": 2.5}, "mask_grow", "an integer"),
    ({"mask_invert": "maybe"}, "mask_invert", None),
    ({"mask_mode": "grey"}, "mask_mode", "one of hard, soft"),
    ({"mask_source": "image"}, "mask_source", "one of file, alpha"),
    ({"mask_source": "alpha"}, "mask", "absent, as mask_source is alpha"),
    ({"mask_source": "alpha", "mask": None}, "image", "an image with transparent pixels"),
    ({"inpaint_area": "all"}, "inpaint_area", "one of whole, masked"),
    ({"inpaint_area": "masked", "mask_padding": 513}, "mask_padding", "at most 512"),
    ({"mask_padding": 8}, "mask_padding", "absent, as inpaint_area is not masked"),
    ({"inpaint_area": "masked", "resize_mode": "crop"}, "resize_mode", "absent"),
    ({"inpaint_area": "masked", "width": 20}, "width", "a multiple of 8"),
    ({"masked_content": "red"}, "masked_content", "one of original, fill, noise, nothing"),
    ({"resize_mode": "zoom"}, "resize_mode", "one of stretch, crop, fill"),
    ({"noise_multiplier": 1.6}, "noise_multiplier", "at most 1.5"),
    ({"mask": None}, "mask", "given for inpaint"),
]


@pytest.mark.parametrize(("fields", "field", "bound"), WRONG)
def test_wrong_options_are_refused(
    service: Running, fields: dict[str, object], field: str, bound: str | None
) -> None:
    body = {"image": in_base64(packed(gradient())), "mask": sent(square(64, 64, 9, 9, 6))}
    response = post(service, "inpaint", **(body | fields))
    problem = response.json()
    assert (response.status_code, problem["field"]) == (422, field), problem
    assert bound is None or problem["bound"].startswith(bound)


@pytest.mark.parametrize(
    ("task", "field", "value"),
    [("txt2img", "mask_blur", 4), ("img2img", "mask_mode", "soft"), ("txt2img", "resize_mode", 1)],
)
def test_options_of_other_tasks_are_refused(
    service: Running, task: str, field: str, value: object
) -> None:
    image = {"image": in_base64(packed(gradient()))} if task == "img2img" else {}
    response = post(service, task, **image, **{field: value})
    assert (response.status_code, response.json()["field"]) == (422, field)


def test_options_of_a_form(service: Running) -> None:
    files: dict[str, Any] = {
        "prompt": (None, "x"),
        "image": ("a.png", packed(gradient())),
        "mask": ("m.png", packed(Image.fromarray(square(64, 64, 9, 9, 6)))),
        "mask_blur": (None, "4"),
        "mask_invert": (None, "true"),
        "mask_padding": (None, ""),
        "noise_multiplier": (None, "0.9"),
    }
    assert service.client.post("/v1/inpaint", files=files).status_code == 200
    seen = service.worker.seen[-1]
    assert (seen.mask_blur, seen.mask_invert, seen.noise_multiplier) == (4, True, 0.9)
