"""Who is asking: the keys as this process knows them, and what follows from one."""

import asyncio
import hmac
import time
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope, digest, find_key
from protocol.errors import DarkroomError, Forbidden, QueueUnavailable, Unauthorized
from service.settings import ServiceSettings, is_loopback

FRESH_S = 2.0  # for so long a revoked key may still open
SOON_S = 0.25  # a key that is not known may be a moment old; strangers make us look no oftener
UNLIMITED = KeyLimits()


class NoKeys(DarkroomError):
    """The service would stand open to everybody, or to nobody."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"others can reach HOST {host}, and there is no API key: make one with "
            "`darkroom keys create`, or set DARKROOM_ADMIN_KEY; "
            "DARKROOM_AUTH=off would serve everybody"
        )


@dataclass(frozen=True)
class User:
    """Who sends a request. `client` is the name jobs are submitted under, opaque and no secret.

    `owner`: whose jobs are shown; None: everybody's.
    """

    client: str
    owner: str | None
    scopes: frozenset[Scope]
    name: str = ""
    limits: KeyLimits = UNLIMITED

    @classmethod
    def of_key(cls, key: ApiKey) -> "User":
        owner = None if Scope.ADMIN in key.scopes else key.id
        return cls(key.id, owner, key.scopes, key.name, key.limits)

    @classmethod
    def anybody(cls, address: str) -> "User":
        """Where no keys are needed. This machine is nobody in particular: it may be a proxy."""
        client = "" if is_loopback(address) else f"address-{address}"
        return cls(client, None, frozenset({Scope.ADMIN}))

    def may(self, scope: Scope) -> None:
        """Raises `Forbidden` where the key is not meant for that."""
        if not self.scopes & {scope, Scope.ADMIN}:
            raise Forbidden(scope.value)


ADMIN = User("admin", None, frozenset({Scope.ADMIN}), "admin")


class ApiKeyBackend:
    """The keys that open, read from Redis again every `FRESH_S` seconds.

    While Redis is away those last read go on opening: nothing can be asked for then anyway.
    """

    def __init__(self, records: KeyRecords, settings: ServiceSettings) -> None:
        self._records = records
        admin = settings.admin_key
        self._admin_digest = digest(admin.get_secret_value()) if admin else ""
        self._keys: dict[str, ApiKey] | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    async def visitor(self, headers: Headers) -> User:
        """Who shows which key. Raises `Unauthorized`."""
        token = _token(headers)
        if hmac.compare_digest(digest(token), self._admin_digest):
            return ADMIN
        key = find_key(token, await self._known(FRESH_S)) or (
            find_key(token, await self._known(SOON_S)) if token else None
        )
        if key is None:
            raise Unauthorized
        return User.of_key(key)

    async def _known(self, age_s: float) -> dict[str, ApiKey]:
        """The keys as they were at most `age_s` seconds ago."""
        if self._keys is None or time.monotonic() - self._read_at > age_s:
            async with self._reading:
                if self._keys is None or time.monotonic() - self._read_at > age_s:
                    await self._read()
        assert self._keys is not None
        return self._keys

    async def _read(self) -> None:
        try:
            self._keys = await run_in_threadpool(self._records.all)
        except QueueUnavailable:
            if self._keys is None:
                raise
        self._read_at = time.monotonic()


def check_door(settings: ServiceSettings, records: KeyRecords) -> None:
    """Refuse to start where keys are needed and there are none; raises `NoKeys`.

    A Redis that is away says nothing of keys; until it is back, nobody is let in.
    """
    if not settings.keys_needed or settings.admin_key is not None:
        return
    try:
        known = records.all()
    except QueueUnavailable:
        return
    if not known:
        raise NoKeys(settings.host)


def _token(headers: Headers) -> str:
    """The key a request shows, or an empty text."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key", "").strip()
