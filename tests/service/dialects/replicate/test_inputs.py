"""Inputs of predictions become our fields."""

from typing import Any

import pytest

from protocol.request.request import GenerationRequest
from protocol.request.tasks import Task
from service.dialects.replicate.inputs import kept_input, task_of
from tests.service.conftest import ABLE, CARD, Running
from tests.service.dialects.replicate.asking import generated, refused
from tests.service.sample_images import gradient, in_base64, left_half_white, packed

IMAGE = "data:image/png;base64," + in_base64(packed(gradient()))
WIDE = "data:image/png;base64," + in_base64(packed(gradient(300, 100)))
MASK = in_base64(packed(left_half_white()))


@pytest.mark.parametrize(
    ("sent", "field", "expected"),
    [
        ({"num_inference_steps": 7}, "steps", 7),
        ({"num_steps": "7"}, "steps", 7),
        ({"guidance_scale": 3}, "guidance_scale", 3),
        ({"guidance": "3.5"}, "guidance_scale", 3.5),
        ({"num_outputs": 3}, "n", 3),
        ({"num_images": "2"}, "n", 2),
        ({"scheduler": "K_EULER"}, "sampler", "euler"),
        ({"scheduler": "DDIM"}, "sampler", "ddim"),
        ({"scheduler": "EulerDiscrete"}, "sampler", "euler"),
        ({"scheduler": "DDIMScheduler"}, "sampler", "ddim"),
        ({"output_format": "jpg", "output_quality": 70}, "output_format", "jpeg"),
        ({"output_format": "webp", "output_quality": 70}, "quality", 70),
        ({"size": "128x64"}, "width", 128),
        ({"aspect_ratio": "1:2"}, "height", 96),
        ({"aspect_ratio": "1:2", "width": 64, "height": 64}, "height", 64),
        ({"aspect_ratio": "custom"}, "width", 64),
        ({"size": "1:1"}, "height", 64),
        ({"negative_prompt": ""}, "negative_prompt", ""),
        ({"seed": None, "refine": "no_refiner", "go_fast": True}, "n", 1),
        ({"seed": 2**40}, "seed", 2**40),
        ({"image": IMAGE}, "task", Task.IMG2IMG),
        ({"input_image": IMAGE, "prompt_strength": 0.3}, "strength", 0.3),
        ({"image": WIDE}, "width", 120),
        ({"image": IMAGE, "mask": MASK}, "task", Task.INPAINT),
        ({"image": IMAGE, "left": 16}, "task", Task.OUTPAINT),
    ],
)
def test_input_becomes_ours(
    replicate: Running, sent: dict[str, Any], field: str, expected: object
) -> None:
    _, request = generated(replicate, **sent)
    assert getattr(request, field) == expected


def test_prediction_has_its_input_but_for_the_data_of_files(replicate: Running) -> None:
    sent = {"image": IMAGE, "prompt_strength": 0.5, "seed": 3, "nonsense": [1]}
    found, _ = generated(replicate, **sent)
    assert found["input"] == {
        "prompt": "a cat",
        "prompt_strength": 0.5,
        "seed": 3,
        "nonsense": [1],
    }
    address: dict[str, Any] = {"image": "https://example.org/a.png"}
    assert kept_input(address) == address
    assert kept_input({"image": "https://" + "x" * 5000, "mask": ["x"]}) == {}


@pytest.mark.parametrize(
    ("sent", "field", "kind"),
    [
        ({}, "input.prompt", "missing-field"),
        ({"prompt": 5}, "input.prompt", "wrong-type"),
        ({"prompt": "x", "width": 67}, "input.width", "size-not-a-multiple"),
        ({"prompt": "x", "num_outputs": 99}, "input.num_outputs", "out-of-range"),
        ({"prompt": "x", "num_steps": 0}, "input.num_steps", "out-of-range"),
        ({"prompt": "x", "scheduler": "nope"}, "input.scheduler", "unknown-sampler"),
        ({"prompt": "x", "aspect_ratio": "0:1"}, "input.aspect_ratio", "malformed"),
        ({"prompt": "x", "size": "big"}, "input.size", "malformed"),
        ({"prompt": "x", "image": "no base64!"}, "input.image", "bad-base64"),
        ({"prompt": "x", "image": 5}, "input.image", "wrong-type"),
        ({"prompt": "x", "init_image": "AAAA"}, "input.init_image", "broken-image"),
        ({"prompt": "x", "image": "http://example.org/a"}, "input.image", "unknown-field"),
        ({"prompt": "x", "num_outputs": 1, "num_images": 2}, "input.num_images", "given-twice"),
        ({"prompt": "x " * 30}, "input.prompt", "prompt-too-long"),
        ({"prompt": "x", "note": "y" * 2**18}, "input", "too-long"),
    ],
)
def test_wrong_input_is_named_as_it_was_sent(
    replicate: Running, sent: dict[str, Any], field: str, kind: str
) -> None:
    problem = refused(replicate, sent)
    assert (problem["field"], problem["type"].rpartition(":")[2]) == (field, kind)


@pytest.mark.parametrize("sent", [None, 5, "x", [], [{}]])
def test_input_must_be_an_object(replicate: Running, sent: Any) -> None:
    assert refused(replicate, sent)["field"] == "input"


@pytest.mark.parametrize(
    ("given", "tasks", "expected"),
    [
        ({}, (Task.UNCONDITIONAL,), Task.UNCONDITIONAL),
        ({"class_id": 3}, (Task.CLASS,), Task.CLASS),
        ({"boxes": []}, (Task.LAYOUT,), Task.LAYOUT),
        ({"image": "x"}, (Task.UPSCALE,), Task.UPSCALE),
        ({"image": "x"}, (Task.SEMANTIC,), Task.SEMANTIC),
        ({"image": "x", "upscaler": "lanczos"}, ABLE.tasks, Task.UPSCALE),
        ({"image": "x"}, (Task.TXT2IMG,), Task.SEMANTIC),
        ({"image": "x", "mask": "x"}, (Task.IMG2IMG,), Task.IMG2IMG),
    ],
)
def test_task_follows_from_the_input_and_the_model(
    given: dict[str, object], tasks: tuple[Task, ...], expected: Task
) -> None:
    assert task_of(given, CARD.model_copy(update={"tasks": tasks})) is expected


def test_images_are_those_of_our_own_api(replicate: Running) -> None:
    """The same parameters are the same request, whichever API they come through."""
    _, theirs = generated(replicate, seed=7, num_inference_steps=3, scheduler="K_EULER")
    body = {"prompt": "a cat", "seed": 7, "steps": 3, "sampler": "euler"}
    assert replicate.client.post("/v1/txt2img", json=body).status_code == 200
    ours = replicate.worker.seen[-1]
    assert isinstance(theirs, GenerationRequest)
    assert theirs == ours
