"""Commands of an operator to the workers: load or unload a model.

The latest command of each model is kept in one hash. Every worker reads it, and obeys each command
once.
"""

import secrets
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationError
from redis import Redis

from protocol.connection.keyspace import key
from protocol.connection.redis_client import redis_errors
from protocol.record import Record

COMMANDS = key("model-commands")  # a hash: model -> ModelCommand as JSON
KEPT_S = 86_400


class Action(StrEnum):
    """Load a model into memory in at least one worker, or unload it in all of them."""

    LOAD = "load"
    UNLOAD = "unload"


class ModelCommand(Record):
    """A command; its id tells it from an earlier one of the same kind."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    action: Action


class ModelCommands:
    """The commands, in Redis. Raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def give(self, model: str, action: Action) -> None:
        """Give a command; an earlier one for the same model is void."""
        command = ModelCommand(id=secrets.token_hex(8), action=action)
        with redis_errors(), self._redis.pipeline() as pipe:
            pipe.hset(COMMANDS, model, command.model_dump_json())
            pipe.expire(COMMANDS, KEPT_S)
            pipe.execute()

    def all(self) -> dict[str, ModelCommand]:
        """Return the latest command of each model."""
        with redis_errors():
            found: dict[bytes, bytes] = self._redis.hgetall(COMMANDS)  # type: ignore[assignment]  # sync client
        commands = {}
        for model, text in found.items():
            try:
                commands[model.decode()] = ModelCommand.model_validate_json(text)
            except ValidationError:  # of another version
                continue
        return commands
