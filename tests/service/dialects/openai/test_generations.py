"""POST /v1/images/generations."""

import httpx
import pytest

from tests.service.conftest import Running
from tests.service.dialects.openai.asking import PATH, generated, refused
from tests.service.sample_images import opened


def test_an_image_in_base64(openai: Running) -> None:
    answer, request = generated(openai, seed=7)
    assert opened(answer["data"][0]["b64_json"]).size == (64, 64)
    assert answer["data"][0]["seed"] == request.seed == 7
    assert answer["size"] == "64x64"
    assert answer["output_format"] == "png"
    assert answer["background"] == "opaque"
    assert "quality" not in answer
    assert isinstance(answer["created"], int)
    assert answer["usage"] == {
        "input_tokens": 2,
        "output_tokens": 0,
        "total_tokens": 2,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 2},
        "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    }


def test_it_is_the_same_image_as_that_of_our_own_route(openai: Running) -> None:
    own = openai.client.post("/v1/txt2img", json={"prompt": "a cat", "seed": 7}).json()
    own_request = openai.worker.seen[-1]
    answer, request = generated(openai, seed=7)
    assert request == own_request
    assert answer["data"][0]["b64_json"] == own["images"][0]["base64"]


@pytest.mark.parametrize(
    ("fields", "is_url"),
    [
        ({}, False),
        ({"model": "tiny"}, False),
        ({"model": "gpt-image-1"}, False),
        ({"model": "dall-e-2"}, True),
        ({"model": "dall-e-3"}, True),
        ({"model": "dall-e-3", "response_format": "b64_json"}, False),
        ({"model": "gpt-image-1.5", "response_format": "url"}, True),
        ({"response_format": None}, False),
    ],
)
def test_the_form_of_the_images(openai: Running, fields: dict[str, object], is_url: bool) -> None:
    answer, request = generated(openai, **fields)
    (image,) = answer["data"]
    assert ("url" in image, "b64_json" in image) == (is_url, not is_url)
    assert request.model == "tiny"
    if is_url:
        assert image["url"].endswith(".png")
        assert opened(httpx.get(image["url"], timeout=60).content).size == (64, 64)


def test_the_names_of_openais_models_mean_the_default(openai: Running) -> None:
    names = ("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1.5", "gpt-image-2.6-flare")
    for name in (*names, "chatgpt-image-latest", "Default"):
        assert generated(openai, model=name)[1].model == "tiny"


def test_an_unknown_model(openai: Running) -> None:
    status, error = refused(openai, model="sdxl-turbo")
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "tiny" in error["message"]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (64, 64)),
        ({"size": "auto"}, (64, 64)),
        ({"size": ""}, (64, 64)),
        ({"size": "128x64"}, (128, 64)),
        ({"size": "128X64"}, (128, 64)),
        ({"width": 32, "height": "48"}, (32, 48)),
        ({"width": 32}, (32, 32)),
        ({"size": "128x64", "width": 128}, (128, 64)),
        ({"model": "gpt-image-1", "size": "1024x1024"}, (64, 64)),
        ({"model": "gpt-image-1", "size": "1536x1024"}, (72, 48)),
        ({"model": "dall-e-3", "size": "1024x1792"}, (56, 96)),
        ({"model": "dall-e-2", "size": "128x128"}, (128, 128)),
        ({"aspectRatio": "2:1"}, (96, 48)),
        ({"aspect_ratio": "auto"}, (64, 64)),
    ],
)
def test_sizes(openai: Running, fields: dict[str, object], size: tuple[int, int]) -> None:
    answer, request = generated(openai, **{"response_format": "b64_json", **fields})
    assert answer["size"] == f"{size[0]}x{size[1]}"
    assert opened(answer["data"][0]["b64_json"]).size == size
    assert (request.width, request.height) == size


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "1024x1024"}, "size"),
        ({"model": "tiny", "size": "1024x1024"}, "size"),
        ({"size": "100x64"}, "size"),
        ({"model": "dall-e-3", "size": "100x64"}, "size"),
        ({"size": "large"}, "size"),
        ({"size": "9999999x1"}, "size"),
        ({"size": 512}, "size"),
        ({"size": "64x64", "width": 128}, "width"),
        ({"aspect_ratio": "0:1"}, "aspect_ratio"),
        ({"width": 100}, "width"),
    ],
)
def test_sizes_that_are_not_possible(
    openai: Running, fields: dict[str, object], param: str
) -> None:
    status, error = refused(openai, **fields)
    assert (status, error["param"], error["type"]) == (400, param, "invalid_request_error")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": "two"}, "n", "invalid_type"),
        ({"n": 5}, "n", "too_many_images"),  # of the model
        ({"background": "transparent"}, "background", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"output_format": "svg"}, "output_format", "invalid_value"),
        ({"output_compression": 101}, "output_compression", "invalid_value"),
        ({"response_format": "file"}, "response_format", "invalid_value"),
        ({"quality": "ultra"}, "quality", "invalid_value"),
        ({"stream": "perhaps"}, "stream", "invalid_type"),
        ({"partial_images": 4}, "partial_images", "invalid_value"),
        ({"num_inference_steps": 999}, "num_inference_steps", "too_many_steps"),
        ({"step": "many"}, "step", "invalid_type"),
        ({"steps": 3, "step": 4}, "step", "given_twice"),
        ({"cfg": 90}, "cfg", "guidance_too_large"),
        ({"sampler_name": "Restart"}, "sampler_name", "unknown_sampler"),
        ({"seed": [1, 2]}, "seed", "invalid_type"),
        ({"strength": 0.5}, "strength", "not_for_this_task"),
        ({"loras": "x"}, "loras", "invalid_json"),
        ({"loras": ["x"]}, "loras", "invalid_type"),
        ({"lora": {"name": "unknown"}}, "lora", "unknown_lora"),
        ({"prompt": "word " * 21}, "prompt", "prompt_too_long"),
    ],
)
def test_what_cannot_be_done(
    openai: Running, fields: dict[str, object], param: str, code: str
) -> None:
    status, error = refused(openai, **fields)
    assert (status, error["param"], error["code"]) == (400, param, code), error


def test_accepted_without_effect(openai: Running) -> None:
    plain = generated(openai, seed=1)[1]
    fields = {"moderation": "low", "style": "vivid", "user": "u", "safety_identifier": {"x": 1}}
    answer, request = generated(openai, seed=1, quality="hd", url="x", auth="secret", **fields)
    assert request == plain
    assert answer["quality"] == "hd"


def test_files(openai: Running) -> None:
    for asked, given in (("webp", "WEBP"), ("jpeg", "JPEG"), ("jpg", "JPEG"), ("png", "PNG")):
        answer, request = generated(openai, output_format=asked, output_compression=0)
        assert opened(answer["data"][0]["b64_json"]).format == given
        assert answer["output_format"] == given.lower()
        assert request.quality == (90 if given == "PNG" else 1)
    assert generated(openai, output_format="webp")[1].quality == 100


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_inference_steps": 9}, {"steps": 9}),
        ({"steps": "9.0"}, {"steps": 9}),
        ({"step": 9}, {"steps": 9}),
        ({"cfg_scale": "3.5"}, {"guidance_scale": 3.5}),
        ({"cfg": 3}, {"guidance_scale": 3.0}),
        ({"sampler_name": "Euler", "scheduler": "karras"}, {"sampler": "euler"}),
        ({"scheduler": "Karras"}, {"schedule": "karras"}),
        ({"scheduler": "EulerDiscreteScheduler"}, {"sampler": "euler"}),
        ({"sampler": "Euler Karras"}, {"sampler": "euler", "schedule": "karras"}),
        ({"negative_prompt": ""}, {"negative_prompt": ""}),
        ({"negative_prompt": "a dog", "clip_skip": 1}, {"negative_prompt": "a dog"}),
        ({"n": "2"}, {"n": 2}),
        ({"n": None, "steps": None, "quality": None, "user": None}, {"n": 1, "steps": 4}),
    ],
)
def test_fields_of_latent_diffusion(
    openai: Running, fields: dict[str, object], expected: dict[str, object]
) -> None:
    request = generated(openai, **fields)[1]
    assert {name: getattr(request, name) for name in expected} == expected


def test_several_images_have_consecutive_seeds(openai: Running) -> None:
    answer, _ = generated(openai, n=3, seed=5)
    assert [image["seed"] for image in answer["data"]] == [5, 6, 7]
    assert len({image["b64_json"] for image in answer["data"]}) == 3


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "", "application/x-foo"])
def test_the_content_type_does_not_matter(openai: Running, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = openai.client.post(PATH, content=b'{"prompt": "a cat"}', headers=headers)
    assert response.status_code == 200


def test_errors_at_the_door(openai: Running) -> None:
    gone = openai.client.get("/v1/images/nothing")
    assert (gone.status_code, gone.json()["error"]["type"]) == (404, "invalid_request_error")
    wrong = openai.client.put(PATH)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    large = openai.client.post(PATH, content=b" " * 2**21)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")
    host = openai.client.post(PATH, json={"prompt": "x"}, headers={"Host": "evil.example"})
    assert (host.status_code, host.json()["error"]["code"]) == (421, "unknown_host")
