"""GET and POST options: of each client, by its key or its address."""

from collections.abc import Iterator

import httpx
import pytest

from service.app import create_app
from tests.service.conftest import Running, running, serving, settings_for
from tests.service.dialects.automatic1111.webui import WEBUI_CARD, get, info, post
from tests.service.keys import ADMIN_KEY, key_for
from tests.support.redis_server import RedisServer

CARD = WEBUI_CARD.model_copy(update={"aliases": ("small",)})


@pytest.fixture(scope="module")
def webui(redis_server: RedisServer) -> Iterator[Running]:
    with running(redis_server.url, CARD, auth="required", admin_key=ADMIN_KEY) as service:
        yield service


@pytest.fixture
def client(webui: Running) -> Iterator[httpx.Client]:
    """A client with a key of its own."""
    with httpx.Client(base_url=webui.url, headers=key_for(webui), timeout=60) as client:
        yield client


def test_defaults(client: httpx.Client) -> None:
    options = get(client, "options")
    assert options["sd_model_checkpoint"] == "tiny"
    assert (options["samples_format"], options["sd_vae"]) == ("png", "Automatic")
    assert options["CLIP_stop_at_last_layers"] == 1
    assert "forge_preset" not in options


def test_all_options_may_be_sent_back_with_one_changed(client: httpx.Client) -> None:
    """As Open WebUI does, with options of the original among them."""
    options = {**get(client, "options"), "sd_model_checkpoint": "small.safetensors", "grid_save": 1}
    assert post(client, "options", **options) is None
    assert get(client, "options")["sd_model_checkpoint"] == "tiny"


def test_options_change_the_next_requests_of_this_client_only(
    client: httpx.Client, webui: Running
) -> None:
    post(client, "options", CLIP_stop_at_last_layers="2", samples_format="jpg")
    assert get(client, "options")["CLIP_stop_at_last_layers"] == 2
    assert info(post(client, "txt2img", prompt="x"))["clip_skip"] == 2
    assert webui.worker.seen[-1].output_format == "jpeg"
    with httpx.Client(base_url=webui.url, headers=key_for(webui), timeout=60) as other:
        assert get(other, "options")["CLIP_stop_at_last_layers"] == 1
        assert info(post(other, "txt2img", prompt="x"))["clip_skip"] == 1
    overridden = post(
        client, "txt2img", prompt="x", override_settings={"CLIP_stop_at_last_layers": 1}
    )
    assert info(overridden)["clip_skip"] == 1
    assert get(client, "options")["CLIP_stop_at_last_layers"] == 2


def test_options_that_were_chosen_at_another_replica_count_at_once(
    webui: Running, redis_server: RedisServer
) -> None:
    settings, key = settings_for(redis_server.url, auth="required"), key_for(webui)
    with (
        serving(create_app(settings, webui.store), settings) as url,
        httpx.Client(base_url=webui.url, headers=key, timeout=60) as here,
        httpx.Client(base_url=url, headers=key, timeout=60) as there,
    ):
        for skipped in (1, 2, 3, 2):
            post(there, "options", CLIP_stop_at_last_layers=skipped)
            for client in (here, there, here):
                assert info(post(client, "txt2img", prompt="x"))["clip_skip"] == skipped
        post(there, "options", samples_format="jpg")
        invalid = {"prompt": "x", "sampler_name": "none-such"}  # whatever the options
        assert here.post("/sdapi/v1/txt2img", json=invalid).status_code == 400


@pytest.mark.parametrize(
    "options",
    [
        {"sd_model_checkpoint": "none-such"},
        {"sd_vae": "x.pt"},
        {"samples_format": "tiff"},
        {"CLIP_stop_at_last_layers": 99},
        {"jpeg_quality": "best"},
    ],
)
def test_wrong_options_are_refused_and_change_nothing(
    client: httpx.Client, options: dict[str, object]
) -> None:
    before = get(client, "options")
    response = client.post("/sdapi/v1/options", json={**options, "live_previews_enable": True})
    assert response.status_code == 422
    assert response.json()["detail"].startswith(next(iter(options)))
    assert get(client, "options") == before


def test_a_refused_key_is_said_as_the_original_does(webui: Running) -> None:
    for path in ("/sdapi/v1/options", "/controlnet/version", "/config", "/internal/pending-tasks"):
        response = httpx.get(webui.url + path, auth=("user", "wrong"), timeout=60)
        assert response.status_code == 401
        assert response.json() == {"detail": "Incorrect username or password"}
        assert response.headers["www-authenticate"].startswith("Basic")


def test_a_key_is_the_password_of_basic_authentication(webui: Running) -> None:
    response = httpx.get(f"{webui.url}/sdapi/v1/options", auth=("anybody", ADMIN_KEY), timeout=60)
    assert response.status_code == 200


def test_options_need_no_model(redis_url: str) -> None:
    with running(redis_url, CARD, max_wait_s=1.0) as service:
        service.worker.redis.flushall()
        assert get(service.client, "options")["sd_model_checkpoint"] == ""
        assert service.client.post("/sdapi/v1/txt2img", json={}).status_code == 503
