"""Client packages of Hugging Face, unpatched: text to image, image to image, errors."""

from __future__ import annotations

import httpx
import numpy as np
import pytest

from tests.clients.clients import Action, Client
from tests.clients.conftest import Ask
from tests.clients.inference_clients import HUGGINGFACE_CLIENTS
from tests.clients.openai_requests import PROMPT, SIDES, generated
from tests.clients.processes import ClientError
from tests.clients.stack import MODEL
from tests.service.sample_images import gradient, in_base64, left_half_white, opened, packed, same

PATH = f"/models/darkroom/{MODEL}"
ASKED = {"width": SIDES[0], "height": SIDES[1], "num_inference_steps": 3, "seed": 7}
IMAGE = gradient(128, 128)


def that(action: Action) -> pytest.MarkDecorator:
    """Run a test with every client that has `action`."""
    clients = [client for client in HUGGINGFACE_CLIENTS if action in client.actions]
    return pytest.mark.parametrize("client", clients, ids=[client.name for client in clients])


@that(Action.FILE)
@pytest.mark.parametrize("path", [PATH, f"/hf-inference/models/{MODEL}"])
def test_generates(client: Client, ask: Ask, native: httpx.Client, path: str) -> None:
    """The image is that of the native API for the same seed."""
    image = opened(ask("generate", path=path, prompt=PROMPT, **ASKED))
    [expected] = generated(native, 1, 7, steps=3)
    assert same(image, expected)


@that(Action.FILE)
def test_further_parameters(client: Client, ask: Ask, native: httpx.Client) -> None:
    extra = {"clip_skip": 1, "guidance_rescale": 0.5}
    image = opened(ask("generate", path=PATH, prompt=PROMPT, extra_body=extra, **ASKED))
    [expected] = generated(native, 1, 7, steps=3, **extra)
    assert same(image, expected)


@that(Action.EDIT)
def test_edits(client: Client, ask: Ask, native: httpx.Client) -> None:
    data = in_base64(packed(IMAGE))
    asked = {"prompt": PROMPT, "strength": 0.5, "seed": 7}
    answer = native.post("/v1/img2img", json={**asked, "image": data, "steps": 3})
    image = opened(ask("edit", path=PATH, image=data, num_inference_steps=3, **asked))
    assert same(image, opened(answer.raise_for_status().json()["images"][0]["base64"]))
    alone = opened(ask("edit", path=PATH, image=data))  # the file is the body
    assert alone.size == IMAGE.size


@that(Action.EDIT)
def test_edits_to_a_size(client: Client, ask: Ask) -> None:
    size = {"width": 128, "height": 64}
    data = in_base64(packed(IMAGE))
    assert opened(ask("edit", path=PATH, image=data, target_size=size)).size == (128, 64)


@that(Action.MASK)
def test_edits_where_the_mask_is_white(client: Client, ask: Ask) -> None:
    mask = in_base64(packed(left_half_white(128, 128)))
    image = opened(ask("edit", path=PATH, image=in_base64(packed(IMAGE)), prompt=PROMPT, mask=mask))
    before, after = np.asarray(IMAGE), np.asarray(image.convert("RGB"))
    assert np.array_equal(before[:, 72:], after[:, 72:])
    assert not np.array_equal(before[:, :56], after[:, :56])


@that(Action.CANCEL)
def test_cancels(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("abort", path=PATH, prompt=PROMPT, num_inference_steps=150)
    assert client.errors["abort"] in raised.value.kinds
    assert opened(ask("generate", path=PATH, prompt=PROMPT, **ASKED)).size == SIDES


@that(Action.ERROR)
def test_meets_an_error(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("generate", path=PATH, prompt=PROMPT, width=67)
    error = raised.value
    assert client.errors["bad"] in error.kinds
    assert error.status == httpx.codes.UNPROCESSABLE_ENTITY
    assert "parameters.width is 67" in error.message


@that(Action.ERROR)
def test_meets_an_unknown_model(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("generate", path="/models/darkroom/no-such-model", prompt=PROMPT)
    assert raised.value.status == httpx.codes.NOT_FOUND
    assert "no-such-model" in raised.value.message


@that(Action.REFUSED)
def test_meets_a_refused_key(client: Client, ask: Ask) -> None:
    with pytest.raises(ClientError) as raised:
        ask("generate", path=PATH, prompt=PROMPT, api_key="not-a-key")
    error = raised.value
    assert client.errors["refused"] in error.kinds
    assert error.status == httpx.codes.UNAUTHORIZED
    assert "not-a-key" not in error.message
