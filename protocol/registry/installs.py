"""Installs of models by request: each has a record with its state and progress, in Redis.

    queued ──claim──▶ running ──report──▶ finished | failed
       ▲                │
       └────────────────┘ release, or the end of the lease

Until it has ended, an install can be cancelled.

One worker at a time holds an install, with a lease that each report renews. The lease is the fence:
a worker that has lost it can no longer report. An install whose worker dies goes to another.
"""

import secrets
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.connection.scripts import PipelinedScript
from protocol.errors import TooManyInstalls, UnknownInstall
from protocol.record import Float, Record, Text
from protocol.registry.presence import Fraction
from protocol.request.fields import ServedName

ALL = key("installs")  # a sorted set: id -> when it was requested
MOST_OPEN = 16  # installs that may be queued or running
KEPT = 100  # records, the latest
KEPT_S = 7 * 86_400  # after the last change
MAX_ATTEMPTS = 3  # workers that may die of one install
LONGEST_TEXT = 1000  # characters of an error or a part

_PART = "[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
HUB_ID = f"^{_PART}/{_PART}$"


def _plain(source: str) -> str:
    if ".." in source or "--" in source:
        raise ValueError("owner/name of the hub, without .. and --")
    return source


HubId = Annotated[Text, Field(pattern=HUB_ID), AfterValidator(_plain)]
InstallId = Annotated[Text, Field(pattern="^[0-9a-f]{16}$")]


class InstallState(StrEnum):
    """The state of an install."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class InstallKind(StrEnum):
    """The kinds of the model store."""

    MODEL = "model"
    LORA = "lora"
    EMBEDDING = "embedding"
    CONTROLNET = "controlnet"
    VAE = "vae"
    UNET = "unet"
    UPSCALER = "upscaler"


class InstallRequest(Record):
    """A repository of the hub to install, its name here, and the kind it must be."""

    source: HubId = Field(
        description="A repository of the hub, owner/name.", examples=["madebyollin/taesd"]
    )
    name: ServedName | None = Field(
        default=None, description="The name to install it under; by default that of the source."
    )
    kind: InstallKind | None = Field(
        default=None, description="Refuse a source of any other kind; by default it is detected."
    )

    @property
    def owner(self) -> str:
        """The owner of the repository."""
        return self.source.partition("/")[0]


class Install(InstallRequest):
    """An install: `share` (0 to 1) of it is done, and `part` is what is being done.

    `name` and `kind` are those found once it is finished. `error` is the reason of a failure.
    """

    id: InstallId
    state: InstallState
    share: Fraction = 0.0
    part: Text = ""
    error: Text | None = None
    created_at: Float = Field(description="Seconds since 1970.")


class Installs:
    """The installs, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._submit = PipelinedScript(redis, "install_submit", "installs")
        self._cancel = PipelinedScript(redis, "install_cancel", "installs")
        self._claim = PipelinedScript(redis, "install_claim", "installs")
        self._report = PipelinedScript(redis, "install_report", "installs")

    def submit(self, request: InstallRequest) -> Install:
        """Queue an install; one for the same request that has not ended is returned instead.

        Raises TooManyInstalls.
        """
        with redis_errors():
            found: bytes | int = self._submit(
                id=secrets.token_hex(8),
                request=request.model_dump_json(),
                most=MOST_OPEN,
                kept=KEPT,
                kept_s=KEPT_S,
            )
        if isinstance(found, int):
            raise TooManyInstalls(found, MOST_OPEN)
        return self.get(found.decode())

    def get(self, install_id: str) -> Install:
        """Return an install. Raises UnknownInstall."""
        with redis_errors():
            fields: dict[bytes, bytes] = self._redis.hgetall(_key(install_id))  # type: ignore[assignment]  # sync client
        if (install := _read(install_id, fields)) is None:
            raise UnknownInstall(install_id)
        return install

    def all(self) -> list[Install]:
        """Return the installs, the latest first."""
        with redis_errors():
            ids: list[bytes] = self._redis.zrevrange(ALL, 0, KEPT - 1)  # type: ignore[assignment]  # sync client
            with self._redis.pipeline(transaction=False) as pipe:
                for install_id in ids:
                    pipe.hgetall(_key(install_id.decode()))
                found = pipe.execute()
        read = (_read(name.decode(), fields) for name, fields in zip(ids, found, strict=True))
        return [install for install in read if install is not None]

    def cancel(self, install_id: str) -> Install:
        """Cancel an install that has not ended, and return it. Raises UnknownInstall.

        The worker that holds it stops when it reports next.
        """
        with redis_errors():
            self._cancel(id=install_id, kept_s=KEPT_S)
        return self.get(install_id)

    def claim(self, token: str, lease_s: float) -> Install | None:
        """Return an install that no worker holds, held for `lease_s` seconds from now on.

        `token` is new for each claim; it stands for the worker in the reports.
        """
        with redis_errors():
            found: bytes | None = self._claim(
                token=token, lease_s=lease_s, most=MAX_ATTEMPTS, kept_s=KEPT_S
            )
        return None if found is None else self.get(found.decode())

    def report(self, install_id: str, token: str, lease_s: float, share: float, part: str) -> bool:
        """Report progress and renew the lease; return False if it is lost."""
        fields = {"share": f"{share:.4f}", "part": part[:LONGEST_TEXT]}
        return self._change(install_id, token, fields, lease_s=lease_s)

    def release(self, install_id: str, token: str) -> bool:
        """Give an install back to the queue, for another worker to begin it again."""
        fields = {"state": InstallState.QUEUED, "share": "0", "part": ""}
        return self._change(install_id, token, fields, lease_s=0, released=True)

    def finish(self, install_id: str, token: str, name: str, kind: str) -> bool:
        """End an install that is in the model store under this name."""
        fields = {"state": InstallState.FINISHED, "share": "1", "part": ""}
        return self._change(
            install_id, token, {**fields, "name": name, "kind": kind}, has_ended=True
        )

    def fail(self, install_id: str, token: str, reason: str) -> bool:
        """End an install with the reason why nothing was installed."""
        fields = {"state": InstallState.FAILED, "part": "", "error": reason[:LONGEST_TEXT]}
        return self._change(install_id, token, fields, has_ended=True)

    def _change(self, install_id: str, token: str, fields: dict[str, str], **how: Any) -> bool:
        with redis_errors():
            return bool(
                self._report(id=install_id, token=token, fields=fields, kept_s=KEPT_S, **how)
            )


def new_token() -> str:
    """Return the token of a claim."""
    return secrets.token_hex(8)


def _key(install_id: str) -> str:
    return key("install", install_id)


def _read(install_id: str, fields: dict[bytes, bytes]) -> Install | None:
    """Return the install in a hash; None if it has expired or is of another version."""
    text = {name.decode(): value.decode() for name, value in fields.items()}
    try:
        request = InstallRequest.model_validate_json(text.get("request", ""))
        found = {name: text[name] for name in ("name", "kind", "error") if name in text}
        return Install.model_validate(
            {
                **request.model_dump(),
                "id": install_id,
                "state": InstallState(text["state"]),
                "share": float(text["share"]),
                "part": text["part"],
                "created_at": float(text["created_at"]),
                **found,
            }
        )
    except (ValidationError, ValueError, KeyError):
        return None
