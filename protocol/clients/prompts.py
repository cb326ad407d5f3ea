"""The prompts of a client of ComfyUI's API, which it names and follows by a WebSocket.

A prompt is a job, with ComfyUI's own object beside it (`protocol.queue.dialect_jobs`). Here is what
belongs to the client: the ids that it has chosen itself, the numbers of its prompts, and notices
to its sockets, which may be connected to any API process.
"""

from redis import Redis

from protocol.clients.names import client_key, client_name
from protocol.connection.redis_client import redis_errors
from protocol.queue.job import JobState
from protocol.queue.progress import Progress, channel

TTL_S = 7 * 86_400
SOCKET_TTL_S = 86_400


class ClientPrompts:
    """The names of prompts, in Redis. Raises `QueueUnavailable` when Redis does not answer.

    The caller bounds the ids that clients choose.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def next_number(self, client: str) -> int:
        """Return the number of the client's next prompt."""
        name = client_key("prompt-number", client)
        with redis_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.incr(name)
            pipe.expire(name, TTL_S)
            number, _ = pipe.execute()
        return int(number)

    def name(self, client: str, prompt_id: str, job_id: str) -> None:
        """Note the id that a client has chosen for a job; a later job takes it over."""
        with redis_errors():
            self._redis.set(_prompt(client, prompt_id), job_id, ex=TTL_S)

    def named(self, client: str, prompt_id: str) -> str | None:
        """Return the job that has an id of the client's."""
        with redis_errors():
            found: bytes | None = self._redis.get(_prompt(client, prompt_id))  # type: ignore[assignment]  # sync client
        return None if found is None else found.decode()

    def claim_socket(self, client: str, socket_id: str, token: str) -> None:
        """Make the socket with `token` the one of its id; others with the id are replaced."""
        with redis_errors():
            self._redis.set(_socket(client, socket_id), token, ex=SOCKET_TTL_S)
        self.notify(client)

    def has_socket(self, client: str, socket_id: str, token: str) -> bool:
        """Return False once another socket has the id; keep it otherwise."""
        with redis_errors():
            found: bytes | None = self._redis.getex(_socket(client, socket_id), ex=SOCKET_TTL_S)  # type: ignore[assignment]  # sync client
        return found is None or found.decode() == token

    def notify(self, client: str) -> None:
        """Wake the client's sockets. The message has nothing in it: they read what has changed."""
        notice = Progress(job_id=client_name(client), state=JobState.QUEUED)
        with redis_errors():
            self._redis.publish(channel(client_name(client)), notice.model_dump_json())


def _prompt(client: str, prompt_id: str) -> str:
    return f"{client_key('prompt', client)}:{client_name(prompt_id)}"


def _socket(client: str, socket_id: str) -> str:
    return f"{client_key('prompt-socket', client)}:{client_name(socket_id)}"
