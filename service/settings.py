"""Settings of the service, in addition to those it shares with the workers."""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    model_validator,
)
from pydantic_settings import NoDecode

from protocol.request.fields import ServedName
from protocol.setting_types import Names, check_host, split_list
from protocol.settings import Settings
from service.network_addresses import Network, is_loopback, parse_network
from service.origins import allowed_origin, path_prefix, prefix_of, public_url

MEBIBYTE = 2**20
MIN_KEY_LENGTH = 32  # characters of a key that an operator chooses
MAX_PRESIGNED_S = 7 * 86_400  # S3 and Google Cloud Storage refuse to sign URLs for longer


def _networks(value: object) -> object:
    parts = split_list(value)
    if not isinstance(parts, tuple):
        return value
    return tuple(_network(part) if isinstance(part, str) else part for part in parts)


def _network(text: str) -> Network:
    try:
        return parse_network(text)
    except ValueError as error:
        raise ValueError(f"a list with commas; each is {error}; {text} is not") from None


def _public_url(url: str | None, info: ValidationInfo) -> str | None:
    """Return a public URL in one spelling. Its path and `root_path` must not contradict."""
    if url is None:
        return None
    url, root = public_url(url), info.data.get("root_path", "")
    if not prefix_of(url):
        return url + root
    if root and prefix_of(url) != root:
        raise ValueError(f"a URL that ends with DARKROOM_ROOT_PATH, which is {root}")
    return url


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(allowed_origin)], ...],
    NoDecode,
    BeforeValidator(split_list),
]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]


def _allowed_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        try:
            check_host(name.removeprefix("*."))
        except ValueError as error:
            raise ValueError(f"a list with commas; each is {error}; {name} is not") from None
    return names


def _admin_key(key: SecretStr | None) -> SecretStr | None:
    if key is None or not key.get_secret_value():
        return None
    text = key.get_secret_value()
    if len(text) < MIN_KEY_LENGTH:
        raise ValueError(f"at least {MIN_KEY_LENGTH} characters long")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("made of letters, digits and signs of ASCII, without spaces")
    return key


class Auth(StrEnum):
    """Condition under which requests need an API key."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


class DialectName(StrEnum):
    """The APIs of other systems that the service speaks."""

    OPENAI = "openai"
    AUTOMATIC1111 = "automatic1111"
    STABILITY = "stability"
    REPLICATE = "replicate"
    FAL = "fal"
    HUGGINGFACE = "huggingface"
    COMFYUI = "comfyui"


class Webhooks(StrEnum):
    """The addresses that may be called when a job has ended."""

    OFF = "off"
    PUBLIC = "public"
    ANY = "any"


def _signing_secrets(secrets: SecretStr | None) -> SecretStr | None:
    if secrets is None or not secrets.get_secret_value():
        return None
    for text in secrets.get_secret_value().split(","):
        if len(text.strip()) < MIN_KEY_LENGTH:
            raise ValueError(f"a list with commas, each at least {MIN_KEY_LENGTH} characters long")
    return secrets


class ServiceSettings(Settings):
    """Settings that only the HTTP service has."""

    default_model: ServedName | None = Field(
        default=None,
        description="The model of requests that name none; by default one that is being served.",
    )
    max_body_bytes: int = Field(
        default=32 * MEBIBYTE, ge=1024, description="The largest request body that is read."
    )
    max_image_pixels: int = Field(
        default=8192 * 8192,
        ge=1,
        description="Pixels of the largest image a client may send.",
    )
    decode_threads: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Requests with images prepared at once.",
    )
    max_decoding_bytes: int = Field(
        default=256 * MEBIBYTE,
        ge=16 * MEBIBYTE,
        description="Memory that decoding images may take, of all requests of this process; an "
        "image that needs more gets a 413, one that waits too long for it a 429.",
    )
    max_wait_s: float = Field(
        default=300.0,
        gt=0,
        description="Seconds a client waits for its images before it gets a 504.",
    )
    cancel_on_disconnect: bool = Field(
        default=False,
        description="Whether a job is cancelled when its waiting client disconnects, if the "
        "request does not say; a retry could no longer get its images.",
    )
    poll_s: float = Field(
        default=1.0,
        gt=0,
        description="Seconds between polls of a waiting request, in case a message is lost.",
    )
    image_url_ttl_s: int = Field(
        default=3600,
        ge=0,
        le=MAX_PRESIGNED_S,
        description="Seconds a presigned image URL works; 0: the API hands out the files itself.",
    )
    shutdown_grace_s: int = Field(
        default=5, ge=0, description="Seconds open connections get when the service is stopped."
    )
    auth: Auth = Field(
        default=Auth.AUTO,
        description="Whether API keys are needed: required, off, or auto (needed if HOST is no "
        "loopback address, or one of the three settings of a proxy is set).",
    )
    admin_key: Annotated[SecretStr | None, AfterValidator(_admin_key)] = Field(
        default=None,
        description="A key that may do everything, 32 characters or more; "
        "further ones are made by `darkroom keys create`.",
    )
    signing_secret: Annotated[SecretStr | None, AfterValidator(_signing_secrets)] = Field(
        default=None,
        description="The secret that signs URLs of images and webhooks, 32 characters or more, "
        "the same for all API processes; after a comma former ones, which still work. "
        "By default one kept in Redis.",
    )
    signed_url_ttl_s: int = Field(
        default=86_400,
        ge=60,
        description="Seconds a signed image URL works; such a URL needs no key.",
    )
    dialects: Annotated[tuple[DialectName, ...], NoDecode, BeforeValidator(split_list)] = Field(
        default=tuple(DialectName),
        description="The APIs of other systems that the service speaks, with commas: "
        f"{', '.join(DialectName)}. By default all.",
    )
    public_metrics: bool = Field(
        default=False, description="Whether /metrics can be read without a key."
    )
    allowed_hosts: Annotated[Names, AfterValidator(_allowed_hosts)] = Field(
        default=(),
        description="Names by which clients may call the service, with commas, *.example.org for "
        "all below; localhost always may. By default any where keys are needed, else IP addresses.",
    )
    allowed_origins: Origins = Field(
        default=(),
        description="Sites whose pages may use the API, with commas, as in https://example.org.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded-… and Forwarded headers "
        "are believed, with commas, as in 127.0.0.1,10.0.0.0/8.",
    )
    root_path: Annotated[str, AfterValidator(path_prefix)] = Field(
        default="",
        description="The path below which a proxy serves the API, as in /darkroom.",
    )
    public_url: Annotated[str | None, AfterValidator(_public_url)] = Field(
        default=None,
        description="The URL at which clients reach the API, as in https://example.org; "
        "by default taken from each request.",
    )
    max_bodies_bytes: int = Field(
        default=128 * MEBIBYTE,
        ge=1024,
        description="Bytes of request bodies held at once, of all clients; more get a 503.",
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        description="Connections open at once; more get a 503, except for health checks.",
    )
    header_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds a client may take to send the head of a request."
    )
    keep_alive_s: int = Field(
        default=620,
        ge=1,
        description="Seconds an idle connection stays open; more than a proxy in front keeps it.",
    )
    upload_silence_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds for which the body of a request may stop arriving, else 408.",
    )
    upload_min_rate: int = Field(
        default=16_000,
        ge=1,
        description="Bytes a second in which the body of a request must arrive, on average.",
    )
    upload_grace_s: float = Field(
        default=10.0, gt=0, description="Seconds after which that rate is demanded."
    )
    max_uploads_per_client: int = Field(
        default=16,
        ge=1,
        description="Request bodies that one client may send at once; more get a 429.",
    )
    send_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds in which a client must take some of an answer, or be cut off.",
    )
    embed_metadata: bool = Field(
        default=True,
        description="Whether image files contain the recipe of their image: prompt and settings. "
        "Requests can have it left out, too.",
    )
    image_urls: bool = Field(
        default=False,
        description="Whether requests may give images by address (image_url, mask_url, "
        "depth_map_url).",
    )
    file_ttl_s: int = Field(
        default=86_400, ge=60, description="Seconds for which a file that a client uploads is kept."
    )
    max_files_per_client: int = Field(
        default=200, ge=1, description="Uploaded files kept for one client; its oldest make room."
    )
    max_file_bytes_per_client: int = Field(
        default=256 * MEBIBYTE,
        ge=1024,
        description="Bytes of the uploaded files kept for one client; its oldest make room.",
    )
    fetch_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds that fetching an image by its address may take."
    )

    model_control: bool = Field(
        default=False,
        description="Whether admins may load and unload models by request.",
    )
    webhooks: Webhooks = Field(
        default=Webhooks.PUBLIC,
        description="The addresses that may be called when a job has ended: off, public (of the "
        "internet only), or any (also this machine and private networks).",
    )
    webhook_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Seconds that a webhook's receiver has to answer."
    )
    webhook_retry_s: float = Field(
        default=5.0,
        gt=0,
        le=600,
        description="Seconds until a failed webhook is called again; four times more each time.",
    )

    ORDERED: ClassVar = Settings.ORDERED | {
        "image_url_ttl_s": "result_ttl_s",
        "max_wait_s": "job_lifetime_s",
    }

    @model_validator(mode="after")
    def _bodies_fit(self) -> Self:
        self.check_at_most("max_body_bytes", "max_bodies_bytes")
        return self

    @property
    def signing_secrets(self) -> tuple[str, ...]:
        """Return the secrets that sign URLs and webhooks: the first signs, all verify."""
        text = self.signing_secret.get_secret_value() if self.signing_secret else ""
        return tuple(part.strip() for part in text.split(",") if part.strip())

    @property
    def keys_needed(self) -> bool:
        """Return True if requests need an API key."""
        if self.auth is Auth.AUTO:
            return not is_loopback(self.host) or self.behind_proxy
        return self.auth is Auth.REQUIRED

    @property
    def behind_proxy(self) -> bool:
        """Return True if a setting says that clients come through a proxy.

        It may run on this machine: a loopback address then says nothing of the clients.
        """
        return bool(self.trusted_proxies or self.root_path or self.public_url)

    @property
    def path_prefix(self) -> str:
        """Return the path below which the service is reached, without a slash at its end."""
        return self.root_path or (prefix_of(self.public_url) if self.public_url else "")
