"""The routes below /controlnet, and preprocessors of units."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from service.dialects.automatic1111.controlnet.poses import MAX_COORDINATE, MAX_PEOPLE
from tests.service.conftest import Running, running
from tests.service.dialects.automatic1111.webui import (
    DATA_URI,
    IMAGE,
    WEBUI_CARD,
    get,
    post,
    refused,
)
from tests.service.sample_images import gradient, in_base64, opened
from tests.support.redis_server import RedisServer

CARD = WEBUI_CARD.model_copy(
    update={"controlnets": ("control_v11p_sd15_openpose", "canny", "my-net")}
)
GIVEN = np.asarray(gradient())
BODY = [0.5, 0.25, 1.0, *[0.0] * 51]  # the nose
PERSON: dict[str, Any] = {
    "pose_keypoints_2d": BODY,
    "hand_right_keypoints_2d": None,
    "hand_left_keypoints_2d": [0.25, 0.5, 1.0, *[0.0] * 60],
    "face_keypoints_2d": [0.75, 0.5, 1.0] * 70,
}
CANVAS: dict[str, Any] = {"people": [PERSON], "canvas_width": 128, "canvas_height": 64}
LABEL = "invert (from white bg & black line)"


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, CARD) as service:
        yield service


def pixels(image: str) -> Any:
    return np.asarray(opened(base64.b64decode(image, validate=True)))


def render(webui: Running, *canvases: Any) -> httpx.Response:
    return webui.client.post("/controlnet/render_openpose_json", json=list(canvases))


def test_modules_and_their_labels(webui: Running) -> None:
    found = get(webui.client, "/controlnet/module_list")
    assert found["module_list"] == ["none", "invert", "threshold"]
    labelled = get(webui.client, "/controlnet/module_list?alias_names=true")
    assert labelled["module_list"] == ["none", LABEL, "threshold"]
    for listed in (found, labelled):
        assert list(listed["module_detail"]) == listed["module_list"]
        for detail in listed["module_detail"].values():
            assert detail.keys() == {"model_free", "sliders"}
            assert all({"name", "value", "min", "max"} <= one.keys() for one in detail["sliders"])


def test_kinds_have_the_models_that_are_named_after_them(webui: Running) -> None:
    types = get(webui.client, "/controlnet/control_types")["control_types"]
    assert {kind: one["model_list"] for kind, one in types.items()} == {
        "All": ["None", "control_v11p_sd15_openpose", "canny", "my-net"],
        "Canny": ["None", "canny"],
        "OpenPose": ["None", "control_v11p_sd15_openpose"],
    }
    assert {kind: one["default_model"] for kind, one in types.items()} == {
        "All": "None",
        "Canny": "canny",
        "OpenPose": "control_v11p_sd15_openpose",
    }
    assert all(one["default_option"] in one["module_list"] for one in types.values())


def detected(webui: Running, module: str, **sent: Any) -> Any:
    body = {"controlnet_module": module, "controlnet_input_images": [IMAGE, DATA_URI + IMAGE]}
    found = post(webui.client, "/controlnet/detect", **{**body, **sent})
    assert found["info"] == "Success"
    first, second = map(pixels, found["images"])
    assert (first == second).all()
    return first


def test_detection(webui: Running) -> None:
    assert (detected(webui, "none") == GIVEN).all()
    for name in ("invert", LABEL, "INVERT"):
        assert (detected(webui, name) == 255 - GIVEN).all()
    darkest = GIVEN.min(axis=-1, keepdims=True)
    for sent, threshold in (
        ({}, 127),
        ({"controlnet_threshold_a": -1}, 127),
        ({"controlnet_threshold_a": "20"}, 20),
        ({"controlnet_threshold_a": 1e300}, 255),
    ):
        found = detected(webui, "threshold", **sent)
        assert (found == np.where(darkest > threshold, 255, 0)).all()


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (
            {"controlnet_module": "canny", "controlnet_input_images": [IMAGE]},
            "Module not available",
        ),
        ({"controlnet_module": "invert"}, "No image selected"),
        (
            {"controlnet_module": "invert", "controlnet_input_images": [IMAGE, "x!"]},
            "controlnet_input_images.1 is",
        ),
        ({"controlnet_input_images": [in_base64(b"no image")]}, "controlnet_input_images.0 is"),
    ],
)
def test_detection_that_is_refused(webui: Running, sent: Any, detail: str) -> None:
    response = webui.client.post("/controlnet/detect", json=sent)
    assert response.status_code == 422
    assert response.json()["detail"].startswith(detail)


def test_the_module_of_a_unit_changes_its_image(webui: Running) -> None:
    unit = {"image": IMAGE, "model": "canny"}
    for module, expected in (
        ({}, GIVEN),
        ({"module": "invert"}, 255 - GIVEN),
        ({"module": LABEL}, 255 - GIVEN),
        (
            {"module": "threshold", "threshold_a": 30},
            np.where(GIVEN.min(axis=-1, keepdims=True) > 30, 255, 0),
        ),
    ):
        units = {"controlnet": {"args": [{**unit, **module}, unit]}}
        post(webui.client, "txt2img", prompt="x", alwayson_scripts=units, width=64, height=64)
        first, second = webui.worker.seen[-1].controls
        assert (np.asarray(opened(webui.store.get(first.image_key))) == expected).all()
        assert (np.asarray(opened(webui.store.get(second.image_key))) == GIVEN).all()


def test_the_module_of_a_unit_counts_for_several_initial_images(webui: Running) -> None:
    units = {"controlnet": {"args": [{"image": IMAGE, "model": "canny", "module": "invert"}]}}
    sent = {"prompt": "x", "init_images": [IMAGE, IMAGE]}
    post(webui.client, "img2img", **sent, alwayson_scripts=units)
    for request in webui.worker.seen[-2:]:
        found = np.asarray(opened(webui.store.get(request.controls[0].image_key)))
        assert (found == 255 - GIVEN).all()


def test_units_that_are_refused_name_the_field(webui: Running) -> None:
    unit = {"image": IMAGE, "model": "canny"}
    for changed, field in (({"module": "depth_midas"}, "module"), ({"image": "x!"}, "image")):
        units = {"ControlNet": {"args": [{**unit, "module": "invert", **changed}]}}
        status, detail = refused(webui.client, "txt2img", prompt="x", alwayson_scripts=units)
        assert (status, detail.split()[0]) == (422, f"alwayson_scripts.ControlNet.args.0.{field}")


def test_poses_are_rendered(webui: Running) -> None:
    response = render(webui, CANVAS, {**CANVAS, "canvas_height": 32})
    assert response.status_code == 200
    found = response.json()
    assert (found["info"], len(found["images"])) == ("Success", 2)
    image = pixels(found["images"][0])
    assert image.shape == (64, 128, 3)
    assert tuple(image[16, 64]) == (255, 0, 0)  # the nose
    assert tuple(image[32, 32]) == (0, 0, 255)  # the wrist of the hand
    assert tuple(image[32, 96]) == (255, 255, 255)
    assert tuple(image[0, 0]) == (0, 0, 0)
    assert pixels(found["images"][1]).shape == (32, 128, 3)


def test_points_may_be_in_pixels_and_are_left_out_without_confidence(webui: Running) -> None:
    shares = render(webui, CANVAS).json()["images"]
    in_pixels: list[list[float]] = [[64, 16, 0.9], [32, 32, 1], [96, 32, 1]]
    parts = [
        in_pixels[0] + [0, 0, 0] * 17,
        in_pixels[1] + [5, 5, 0] * 20,
        in_pixels[2] + [7, 7, 0],
    ]
    names = ("pose_keypoints_2d", "hand_left_keypoints_2d", "face_keypoints_2d")
    person = {"pose_keypoints_2d": [], **dict(zip(names, parts, strict=True))}
    assert render(webui, {**CANVAS, "people": [person]}).json()["images"] == shares


def test_nobody_is_a_black_canvas_and_nothing_is_said(webui: Running) -> None:
    found = render(webui, {**CANVAS, "people": []}).json()
    assert not pixels(found["images"][0]).any()
    assert render(webui).json() == {"info": "No pose data detected."}
    assert webui.client.post("/controlnet/render_openpose_json").json()["info"] != "Success"


@pytest.mark.parametrize(
    ("canvas", "detail"),
    [
        (5, "pose_data.0 is 5, but must be an object"),
        ({"foo": 10}, "pose_data.0.people is missing"),
        ({**CANVAS, "people": None}, "pose_data.0.people is missing"),
        ({**CANVAS, "people": {}}, "pose_data.0.people is"),
        ({**CANVAS, "people": [None]}, "pose_data.0.people.0 is"),
        ({**CANVAS, "people": [PERSON] * (MAX_PEOPLE + 1)}, "pose_data.0.people is"),
        ({**CANVAS, "canvas_width": 0}, "pose_data.0.canvas_width is 0, but must be at least 1"),
        ({**CANVAS, "canvas_height": 16385}, "pose_data.0.canvas_height is 16385"),
        ({**CANVAS, "canvas_width": 8192, "canvas_height": 8192}, "pose_data.0.canvas_width is"),
        ({**CANVAS, "people": [{}]}, "pose_data.0.people.0.pose_keypoints_2d is missing"),
        *(
            ({**CANVAS, "people": [{**PERSON, name: value}]}, f"pose_data.0.people.0.{name}")
            for name, value in (
                ("pose_keypoints_2d", [1.0] * 53),
                ("pose_keypoints_2d", [1.0] * 75),
                ("pose_keypoints_2d", [2 * MAX_COORDINATE, *BODY[1:]]),
                ("pose_keypoints_2d", ["x", *BODY[1:]]),
                ("hand_left_keypoints_2d", [1.0] * 60),
                ("hand_right_keypoints_2d", 5),
                ("face_keypoints_2d", [1.0] * 4),
                ("face_keypoints_2d", [1.0] * 213),
            )
        ),
    ],
)
def test_poses_that_are_refused_name_the_field(webui: Running, canvas: Any, detail: str) -> None:
    response = render(webui, canvas)
    assert response.status_code == 422, response.text
    assert response.json()["detail"].startswith(detail)
    response = render(webui, CANVAS, canvas)
    assert response.json()["detail"].startswith(detail.replace("pose_data.0", "pose_data.1"))


def test_bodies_that_are_no_list_are_refused(webui: Running) -> None:
    assert render(webui, *[CANVAS] * 17).status_code == 422
    for content in (b"{}", b"5", b"[", b"\xff", json.dumps(CANVAS).encode(), b"[NaN]"):
        response = webui.client.post("/controlnet/render_openpose_json", content=content)
        assert response.status_code in (400, 422)
        assert response.json()["detail"]
