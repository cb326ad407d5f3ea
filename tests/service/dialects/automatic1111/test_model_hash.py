"""A model that is a single file is named by the hash of that file, as by AUTOMATIC1111."""

import base64
from collections.abc import Iterator

import pytest

from protocol.queue.idempotency import fingerprint
from tests.service.conftest import Running, running
from tests.service.dialects.automatic1111.webui import (
    HASHED_CARD,
    SHA256,
    get,
    info,
    post,
    refused,
)
from tests.support.redis_server import RedisServer

TITLE = "tiny [0123456789]"


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, HASHED_CARD) as service:
        yield service


def test_lists_and_options_have_the_hash(webui: Running) -> None:
    [model] = get(webui.client, "sd-models")
    assert (model["title"], model["model_name"]) == (TITLE, "tiny")
    assert (model["hash"], model["sha256"]) == ("0123456789", SHA256)
    options = get(webui.client, "options")
    assert (options["sd_model_checkpoint"], options["sd_checkpoint_hash"]) == (TITLE, SHA256)


def test_the_hash_is_in_info_and_infotext(webui: Running) -> None:
    found = info(post(webui.client, "txt2img", prompt="x", steps=5, seed=1))
    assert (found["sd_model_name"], found["sd_model_hash"]) == ("tiny", "0123456789")
    assert "Size: 64x64, Model hash: 0123456789, Model: tiny, " in found["infotexts"][0]
    assert "Model hash" not in found["extra_generation_params"]
    assert webui.worker.seen[-1].model_hash == "0123456789"  # which writes it into the file


@pytest.mark.parametrize("name", ["0123456789", SHA256, "renamed.ckpt [0123456789]", TITLE])
def test_a_model_is_chosen_by_its_hash(webui: Running, name: str) -> None:
    override = {"sd_model_checkpoint": name}
    answer = post(webui.client, "txt2img", prompt="x", override_settings=override)
    assert len(base64.b64decode(answer["images"][0])) > 0
    assert post(webui.client, "options", **override) is None
    assert get(webui.client, "options")["sd_model_checkpoint"] == TITLE


def test_another_hash_is_another_model(webui: Running) -> None:
    override = {"sd_model_checkpoint": "ffffffffff"}
    status, detail = refused(webui.client, "txt2img", prompt="x", override_settings=override)
    assert (status, detail.split()[0]) == (422, "sd_model_checkpoint")
    status, detail = refused(webui.client, "options", **override)
    assert (status, detail.split()[0]) == (422, "sd_model_checkpoint")
    assert TITLE in detail


def test_a_retry_is_the_same_request_before_and_after_the_file_was_read(webui: Running) -> None:
    post(webui.client, "txt2img", prompt="x", seed=3)
    request = webui.worker.seen[-1]
    before = request.model_copy(update={"model_hash": None})
    assert fingerprint(request, 3) == fingerprint(before, 3)
