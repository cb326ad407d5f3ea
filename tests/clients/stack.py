"""The local stack that the clients use: keys required, a tiny model for sizes up to 1024 x 1024."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from models.autoencoders.autoencoder_kl import AutoencoderKL
from models.autoencoders.first_stage_config import AutoencoderConfig
from models.checkpoints.checkpoint import save_component
from models.networks.config import UNetConfig
from models.networks.unet import UNet
from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope
from protocol.connection.redis_client import connect, server_time
from service.app import create_app
from service.http_protocol import server_config
from service.settings import Auth, ServiceSettings, Webhooks
from tests.service.conftest import serving_with
from tests.support.certificates import certificates
from tests.support.local_stack import running_program, running_stack, wait_until_ready
from tests.support.redis_server import RedisServer, free_port
from tests.support.tiny_models import CONTEXT, write_tiny_sd

MODEL = "tiny"
SIDE = 512  # pixels, by default
STEPS = 2  # by default; not every client can say how many

UNET = UNetConfig(
    sample_size=SIDE // 8,
    block_out_channels=(8, 8, 16),
    norm_num_groups=4,
    down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=CONTEXT,
)
AUTOENCODER = AutoencoderConfig(
    sample_size=SIDE,
    block_out_channels=(4, 4, 8, 8),
    norm_num_groups=4,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=1,
)


@dataclass(frozen=True)
class Stack:
    """A running stack and two API keys for it, which may generate and read.

    `open_url` is that of a second API process, which needs no key. `https_url` leads to the same
    stack, by TLS with the `certificate`.
    """

    url: str
    open_url: str
    https_url: str
    certificate: Path
    key: str
    other_key: str

    @property
    def v1(self) -> str:
        """Return the base URL for clients of OpenAI's API."""
        return f"{self.url}/v1"


@contextmanager
def client_stack(folder: Path) -> Iterator[Stack]:
    """Run the stack; `folder` is for its model, its images and its logs."""
    model = _write_model(folder / MODEL)
    with RedisServer() as redis:
        key, other_key = (_new_key(redis.url, name) for name in ("first", "second"))
        shared = {
            "REDIS_URL": redis.url,
            "OBJECT_STORE_URL": (folder / "images").as_uri(),
            "DARKROOM_WEBHOOKS": "any",  # their receivers are on this machine
        }
        with (
            running_stack(**shared, DARKROOM_MODEL=str(model), DARKROOM_AUTH="required") as url,
            _api(folder / "open.log", **shared, DARKROOM_AUTH="off") as open_url,
            _https_api(folder, redis.url, shared["OBJECT_STORE_URL"]) as (https_url, certificate),
        ):
            yield Stack(url, open_url, https_url, certificate, key, other_key)


@contextmanager
def _api(log: Path, **settings: str) -> Iterator[str]:
    """Run an API process with these environment variables; yields its address."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {**os.environ, **settings, "HOST": "127.0.0.1", "PORT": str(port)}
    with running_program("service", environment, log) as program:
        wait_until_ready(url, {program: log})
        yield url


@contextmanager
def _https_api(folder: Path, redis_url: str, store_url: str) -> Iterator[tuple[str, Path]]:
    """Serve the API by TLS in this process; yields its address and its certificate."""
    certificate, secret = certificates(folder)
    settings = ServiceSettings(
        redis_url=redis_url,
        object_store_url=store_url,
        auth=Auth.REQUIRED,
        port=free_port(),
        webhooks=Webhooks.ANY,  # as the others: each process sends the webhooks of all
    )
    config = server_config(create_app(settings), settings)
    config.ssl_certfile, config.ssl_keyfile = str(certificate), str(secret)
    config.loop = "asyncio"  # uvloop does not close while a client has a TLS connection open
    with serving_with(config):
        yield f"https://127.0.0.1:{settings.port}", certificate


def _new_key(redis_url: str, name: str) -> str:
    with connect(redis_url) as redis:
        scopes = frozenset({Scope.GENERATE, Scope.READ})
        token, key = ApiKey.create(name, scopes, KeyLimits(), server_time(redis))
        KeyRecords(redis).add(key)
    return token


def _write_model(folder: Path) -> Path:
    """Write a model that generates 1024 x 1024 pixels within seconds on a processor."""
    write_tiny_sd(folder)
    torch.manual_seed(6)
    stem = "diffusion_pytorch_model"
    save_component(UNet(UNET), UNET.to_dict(), folder / "unet", stem, torch.float32)
    vae = AutoencoderKL(AUTOENCODER)
    save_component(vae, AUTOENCODER.to_dict(), folder / "vae", stem, torch.float32)
    (folder / "darkroom.json").write_text(json.dumps({"default_steps": STEPS}))
    return folder
