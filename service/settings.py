"""The settings of the service, on top of those it shares with the workers."""

from pydantic import Field

from protocol.settings import Settings

MEBIBYTE = 2**20


class ServiceSettings(Settings):
    """What only the HTTP front end needs to know."""

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
        description="Seconds a client is kept waiting for its pictures before it gets a 504.",
    )
    poll_s: float = Field(
        default=1.0,
        gt=0,
        description="Seconds after which a waiting request looks for itself, should news get lost.",
    )
    image_url_ttl_s: int = Field(
        default=3600, ge=1, description="Seconds for which a presigned image URL works."
    )
    shutdown_grace_s: int = Field(
        default=5, ge=0, description="Seconds open connections get when the service is stopped."
    )
