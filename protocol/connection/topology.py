"""Redis behind Sentinel, and on a Cluster: whoever connects first asks where the master is.

    redis+sentinel://[user:password@]host:port,host:port/service[/db][?sentinel_password=…]
    redis+cluster://[user:password@]host:port,host:port

and `rediss+…` for TLS. A connection that finds itself at a node that is no longer the right one is
closed, and the next attempt asks anew; so a failover is an outage like any other to everybody else.

On a Cluster all our keys are in one slot, which `RQ_KEY_PREFIX` sees to, and so on one node. RQ and
our scripts speak to that node as to any server; the other nodes are for other users, and failover.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from redis import Connection, Redis, RedisError, SSLConnection
from redis.asyncio import Connection as AsyncConnection
from redis.asyncio import SSLConnection as AsyncSSLConnection
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError

from protocol.connection.keyspace import key

SENTINEL, CLUSTER = "+sentinel", "+cluster"
PORTS = {SENTINEL: 26379, CLUSTER: 6379}
ANSWER_TIMEOUT_S = 1.0  # of whom we ask for the master
ELSEWHERE = (ReadOnlyError, MovedError, ClusterDownError)  # answers of a node that is not the one

Node = tuple[str, int]
Locate = Callable[[], Node]  # the master; raises RedisConnectionError if nobody knows


@dataclass(frozen=True)
class Topology:
    """A `…+sentinel` or `…+cluster` URL, read. `scheme` is redis or rediss."""

    scheme: str
    kind: str
    login: str  # "user:password@", or nothing
    nodes: tuple[Node, ...]
    service: str
    db: int
    options: dict[str, str]  # redis-py's, of the URL's query
    sentinel_password: str

    @classmethod
    def read(cls, url: str) -> "Topology":
        """Raises ValueError, in words for the operator, if the URL is not of that form."""
        parts = urlsplit(url)
        scheme, plus, kind = parts.scheme.partition("+")
        kind = plus + kind
        login, at, hosts = parts.netloc.rpartition("@")
        nodes = [urlsplit(f"//{host}") for host in hosts.split(",")]
        if not all(node.hostname for node in nodes):
            raise ValueError(f"names its hosts as {scheme}{kind}://host:port,host:port")
        service, *rest = parts.path.strip("/").split("/")
        if kind == SENTINEL and (not service or len(rest) > 1 or not all(map(str.isdigit, rest))):
            raise ValueError("ends in the name of Sentinel's service and a database: /service/0")
        if kind == CLUSTER and (service not in ("", "0") or rest):
            raise ValueError("has no database: Redis Cluster knows only one")
        if kind == CLUSTER and "{" not in key():
            raise ValueError("needs RQ_KEY_PREFIX to have braces, as in {darkroom}, for one slot")
        options = dict(parse_qsl(parts.query))
        return cls(
            scheme=scheme,
            kind=kind,
            login=login + at,
            nodes=tuple((node.hostname or "", node.port or PORTS[kind]) for node in nodes),
            service=service,
            db=int(rest[0]) if rest else 0,
            sentinel_password=options.pop("sentinel_password", ""),
            options=options,
        )

    def url(self, node: Node, login: str, db: int = 0) -> str:
        """The plain URL of one node."""
        host = f"[{node[0]}]" if ":" in node[0] else node[0]
        return f"{self.scheme}://{login}{host}:{node[1]}/{db}?{urlencode(self.options)}"

    def locate(self) -> Node:
        """The master, by the first of the nodes that can tell."""
        ask = self._ask_sentinel if self.kind == SENTINEL else self._ask_cluster
        for node in self.nodes:
            with suppress(RedisError):
                if (found := ask(node)) is not None:
                    return found
        raise RedisConnectionError("nobody knows where Redis' master is")

    def _ask_sentinel(self, sentinel: Node) -> Node | None:
        password = self.sentinel_password
        with self._client(sentinel, f":{quote(password, safe='')}@" if password else "") as client:
            found = client.sentinel_get_master_addr_by_name(self.service)
            return None if found is None else (str(found[0]), int(found[1]))

    def _ask_cluster(self, node: Node) -> Node:
        with self._client(node, self.login) as client:
            try:
                client.exists(key())
            except MovedError as elsewhere:
                return elsewhere.host or node[0], elsewhere.port
            return node

    def _client(self, node: Node, login: str) -> Redis:
        return Redis.from_url(
            self.url(node, login),
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=ANSWER_TIMEOUT_S,
            decode_responses=True,
        )


class _Located:
    """A connection to wherever the master is when it connects."""

    def __init__(self, *, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate

    def _connect(self) -> Any:
        self.host, self.port = self._locate()
        return super()._connect()  # type: ignore[misc]  # of redis-py's connection

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ELSEWHERE as error:
            self.disconnect()  # type: ignore[attr-defined]
            raise RedisConnectionError("the master has moved") from error


class _LocatedAsync:
    """The same for asyncio."""

    def __init__(self, *, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate

    async def _connect(self) -> None:
        self.host, self.port = await asyncio.to_thread(self._locate)
        await super()._connect()  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ELSEWHERE as error:
            await self.disconnect()  # type: ignore[attr-defined]
            raise RedisConnectionError("the master has moved") from error


class LocatedConnection(_Located, Connection):
    """By TCP."""


class LocatedSSLConnection(_Located, SSLConnection):
    """By TLS."""


class AsyncLocatedConnection(_LocatedAsync, AsyncConnection):
    """By TCP."""


class AsyncLocatedSSLConnection(_LocatedAsync, AsyncSSLConnection):
    """By TLS."""


def reach(url: str, for_asyncio: bool = False) -> tuple[str, dict[str, Any]]:
    """A URL that redis-py understands, and what else its `from_url` is to be given."""
    if not has_topology(url):
        return url, {}
    topology = Topology.read(url)
    kind: type
    if for_asyncio:
        kind = AsyncLocatedSSLConnection if topology.scheme == "rediss" else AsyncLocatedConnection
    else:
        kind = LocatedSSLConnection if topology.scheme == "rediss" else LocatedConnection
    plain = topology.url(topology.nodes[0], topology.login, topology.db)
    return plain, {"connection_class": kind, "locate": topology.locate}


def has_topology(url: str) -> bool:
    """Whether a URL is one of this module's."""
    return urlsplit(url).scheme.endswith((SENTINEL, CLUSTER))
