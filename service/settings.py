"""Settings of the service, in addition to those it shares with the workers."""

import ipaddress
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from protocol.settings import Settings, or_none

MEBIBYTE = 2**20
MIN_KEY_LENGTH = 32  # characters of a key that an operator chooses


def _split(value: object) -> object:
    """Split a list separated by commas, as it is written in the environment."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


# Without NoDecode a list would have to be written as JSON.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Auth(StrEnum):
    """Condition under which requests need an API key."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


class ServiceSettings(Settings):
    """Settings that only the HTTP service has."""

    default_model: str | None = Field(
        default=None,
        description="The model of requests that name none; by default one that is being served.",
    )
    max_body_bytes: int = Field(
        default=32 * MEBIBYTE, ge=1024, description="The largest request body that is read."
    )
    max_image_pixels: int = Field(
        default=4096 * 4096,
        ge=1,
        description="Pixels of the largest image a client may send.",
    )
    decode_threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Requests with images prepared at once; each may need 200 MB at the bounds.",
    )
    max_wait_s: float = Field(
        default=300.0,
        gt=0,
        description="Seconds a client waits for its images before it gets a 504.",
    )
    poll_s: float = Field(
        default=1.0,
        gt=0,
        description="Seconds between polls of a waiting request, in case a message is lost.",
    )
    image_url_ttl_s: int = Field(
        default=3600,
        ge=0,
        description="Seconds a presigned image URL works; 0: the API hands out the files itself.",
    )
    shutdown_grace_s: int = Field(
        default=5, ge=0, description="Seconds open connections get when the service is stopped."
    )
    auth: Auth = Field(
        default=Auth.AUTO,
        description="Whether API keys are needed: required, off, or auto (as HOST is).",
    )
    admin_key: Annotated[SecretStr | None, BeforeValidator(or_none)] = Field(
        default=None,
        min_length=MIN_KEY_LENGTH,
        description="A key that may do everything, 32 characters or more; "
        "further ones are made by `darkroom keys create`.",
    )
    public_metrics: bool = Field(
        default=False, description="Whether /metrics can be read without a key."
    )
    allowed_hosts: Names = Field(
        default=(),
        description="Names by which clients may call the service, with commas, *.example.org for "
        "all below; by default any where keys are needed, else localhost and IP addresses.",
    )
    allowed_origins: Names = Field(
        default=(),
        description="Sites whose pages may use the API, with commas, as in https://example.org.",
    )
    max_bodies_bytes: int = Field(
        default=128 * MEBIBYTE,
        ge=1024,
        description="Bytes of request bodies held at once, of all clients; more get a 503.",
    )
    max_connections: int = Field(
        default=1000, ge=1, description="Connections served at once; more get a 503."
    )
    header_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds a client may take to send the head of a request."
    )
    body_timeout_s: float = Field(
        default=60.0, gt=0, description="Seconds a client may take to send the body of a request."
    )
    send_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds in which a client must take some of an answer, or be cut off.",
    )
    image_urls: bool = Field(
        default=False,
        description="Whether requests may give images by address (image_url, mask_url).",
    )
    fetch_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds that fetching an image by its address may take."
    )

    @property
    def keys_needed(self) -> bool:
        """Return True if requests need an API key."""
        if self.auth is Auth.AUTO:
            return not is_loopback(self.host)
        return self.auth is Auth.REQUIRED


def is_loopback(host: str) -> bool:
    """Return True if only this machine can connect to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name; only "localhost" is a loopback by definition (RFC 6761)
        return host.lower() == "localhost"
