"""API key authentication: the keys known to this process, and the user of a request."""

import asyncio
import base64
import hmac
import logging
import time
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope, digest, find_key
from protocol.errors import Forbidden, NotReady, QueueUnavailable, Unauthorized
from protocol.startup import InvalidSettings
from service.network_addresses import is_loopback
from service.settings import Auth, ServiceSettings

log = logging.getLogger(__name__)

MAX_AGE_S = 2.0  # of the keys read from Redis: a revoked key may work for this long
# An unknown key may have been created a moment ago. Strangers cause a read no more often than this.
MAX_AGE_UNKNOWN_S = 0.25
UNLIMITED = KeyLimits()


class NoApiKeys(InvalidSettings):
    """The service needs API keys and has none, so it would serve everyone or no one."""

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(
            f"{_why_keys_are_needed(settings)}, and there is no API key: make one with "
            "`darkroom keys create`, or set DARKROOM_ADMIN_KEY; "
            "DARKROOM_AUTH=off would serve everybody"
        )


def _why_keys_are_needed(settings: ServiceSettings) -> str:
    """Return the setting that makes keys needed, as a phrase."""
    if settings.auth is Auth.REQUIRED:
        return "DARKROOM_AUTH is required"
    if not is_loopback(settings.host):
        return f"others can reach HOST {settings.host}"
    variables = {
        "DARKROOM_TRUSTED_PROXIES": settings.trusted_proxies,
        "DARKROOM_ROOT_PATH": settings.root_path,
        "DARKROOM_PUBLIC_URL": settings.public_url,
    }
    of_a_proxy = " and ".join(name for name, value in variables.items() if value)
    return f"clients come through a proxy ({of_a_proxy} set)"


@dataclass(frozen=True)
class User:
    """The sender of a request.

    `client` is the name jobs are submitted under; it is opaque and no secret. `owner` restricts
    the visible jobs to those of one key; None shows all jobs. `webhook_url` is called for jobs that
    name none.
    """

    client: str
    owner: str | None
    scopes: frozenset[Scope]
    name: str = ""
    limits: KeyLimits = UNLIMITED
    webhook_url: str | None = None

    @classmethod
    def from_key(cls, key: ApiKey) -> "User":
        """Return the user of an API key."""
        owner = None if Scope.ADMIN in key.scopes else key.id
        return cls(key.id, owner, key.scopes, key.name, key.limits, key.webhook_url)

    @classmethod
    def anonymous(cls, address: str) -> "User":
        """Return the user of a request that needs no key.

        A loopback address gives an empty client name, because it may be a proxy.
        """
        client = "" if is_loopback(address) else f"address-{address}"
        return cls(client, None, frozenset({Scope.ADMIN}))

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the user has `scope` or is an admin."""
        if not self.scopes & {scope, Scope.ADMIN}:
            raise Forbidden(scope.value)


ADMIN = User("admin", None, frozenset({Scope.ADMIN}), "admin")


class ApiKeyBackend:
    """Authentication by API keys, which are read from Redis again every `MAX_AGE_S` seconds.

    While Redis is unreachable, the keys read last stay valid: no job can be submitted then anyway.
    """

    def __init__(self, records: KeyRecords, settings: ServiceSettings) -> None:
        self._records = records
        admin = settings.admin_key
        self._admin_digest = digest(admin.get_secret_value()) if admin else ""
        self._from_redis_only = settings.keys_needed and not admin
        self._keys: dict[str, ApiKey] | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    async def authenticate(self, headers: Headers) -> User:
        """Return the user whose key is in `headers`.

        Raises `Unauthorized`, and `NotReady` if nobody could be authenticated.
        """
        token = token_of(headers)
        if hmac.compare_digest(digest(token), self._admin_digest):
            return ADMIN
        key = find_key(token, await self._known_keys(MAX_AGE_S)) or (
            find_key(token, await self._known_keys(MAX_AGE_UNKNOWN_S)) if token else None
        )
        if key is None:
            await self.check_any()
            raise Unauthorized
        return User.from_key(key)

    async def check_any(self) -> None:
        """Raise `NotReady` if keys are needed and there are none, as in an emptied Redis."""
        if self._from_redis_only and not await self._known_keys(MAX_AGE_S):
            raise NotReady("there is no API key: make one with `darkroom keys create`")

    async def _known_keys(self, max_age_s: float) -> dict[str, ApiKey]:
        """Return the keys, read from Redis at most `max_age_s` seconds ago."""
        if self._is_older(max_age_s):
            async with self._reading:
                if self._is_older(max_age_s):  # no other request has read them meanwhile
                    await self._read()
        assert self._keys is not None
        return self._keys

    def _is_older(self, age_s: float) -> bool:
        return self._keys is None or time.monotonic() - self._read_at > age_s

    async def _read(self) -> None:
        before = self._keys
        try:
            self._keys = await run_in_threadpool(self._records.all)
        except QueueUnavailable:
            if before is None:
                raise
        if before and not self._keys:
            log.error("all API keys are gone: either revoked, or Redis has lost its data")
        self._read_at = time.monotonic()


def check_keys_exist(settings: ServiceSettings, records: KeyRecords) -> None:
    """Raise `NoApiKeys` if the service needs keys and there are none.

    While Redis is unreachable the keys are unknown, and the service starts: until Redis is back,
    it accepts no request that needs a key.
    """
    if not settings.keys_needed or settings.admin_key is not None:
        return
    try:
        known = records.all()
    except QueueUnavailable:
        return
    if not known:
        raise NoApiKeys(settings)


def token_of(headers: Headers) -> str:
    """Return the key in the headers of a request, or an empty string.

    Clients of other systems send it as `Key` (fal), `Token` (Replicate), or as the password of
    Basic authentication with any user name (AUTOMATIC1111, ComfyUI), `X-Key` (BFL).
    """
    named = (headers.get("x-api-key") or headers.get("x-key", "")).strip()
    kind, _, token = headers.get("authorization", "").partition(" ")
    match kind.lower():
        case "bearer" | "key" | "token":
            return token.strip()
        case "basic" if not named:  # else they are for a proxy in front
            return _password(token)
    return named


def _password(credentials: str) -> str:
    """Return the password of Basic credentials; the user name if there is no password."""
    try:
        user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        return ""
    return password or user
