"""Redis with Sentinel, and Redis Cluster: each new connection first finds the master.

    redis+sentinel://[user:password@]host:port,host:port/service[/db][?sentinel_password=…]
    redis+cluster://[user:password@]host:port,host:port

and `rediss+…` for TLS. A connection to a node that is no longer the master is closed, and the next
attempt finds the master again; so for all other code a failover is an outage like any other.

On a Cluster all our keys are in one slot, by `RQ_KEY_PREFIX`, and so on one node. RQ and our
scripts use that node like any server; the other nodes are for other users, and for failover.
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
ANSWER_TIMEOUT_S = 1.0  # of a node that is asked for the master
NOT_MASTER = (
    ReadOnlyError,
    MovedError,
    ClusterDownError,
)  # errors of a node that is not the master

Node = tuple[str, int]
Locate = Callable[[], Node]  # the master; raises RedisConnectionError if it is not found


@dataclass(frozen=True)
class Topology:
    """A parsed `…+sentinel` or `…+cluster` URL. `scheme` is redis or rediss."""

    scheme: str
    kind: str
    login: str  # "user:password@", or ""
    nodes: tuple[Node, ...]
    service: str
    db: int
    options: dict[str, str]  # of redis-py, from the URL's query
    sentinel_password: str

    @classmethod
    def read(cls, url: str) -> "Topology":
        """Parse a URL. Raises ValueError, with the bound as its message, if it has another form."""
        parts = urlsplit(url)
        scheme, plus, kind = parts.scheme.partition("+")
        kind = plus + kind
        login, at, hosts = parts.netloc.rpartition("@")
        nodes = [urlsplit(f"//{host}") for host in hosts.split(",")]
        if not all(node.hostname for node in nodes):
            raise ValueError(
                f"a URL that names its hosts, as in {scheme}{kind}://host:port,host:port"
            )
        service, *rest = parts.path.strip("/").split("/")
        if kind == SENTINEL and (not service or len(rest) > 1 or not all(map(str.isdigit, rest))):
            raise ValueError(
                "a URL that ends in the name of Sentinel's service and a database: /service/0"
            )
        if kind == CLUSTER and (service not in ("", "0") or rest):
            raise ValueError("a URL without a database: Redis Cluster has only one")
        if kind == CLUSTER and "{" not in key():
            raise ValueError("used with RQ_KEY_PREFIX in braces, as in {darkroom}, for one slot")
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
        """Return the plain URL of one node."""
        host = f"[{node[0]}]" if ":" in node[0] else node[0]
        return f"{self.scheme}://{login}{host}:{node[1]}/{db}?{urlencode(self.options)}"

    def locate(self) -> Node:
        """Return the master, from the first of the nodes that has it."""
        ask = self._ask_sentinel if self.kind == SENTINEL else self._ask_cluster
        for node in self.nodes:
            with suppress(RedisError):
                if (found := ask(node)) is not None:
                    return found
        raise RedisConnectionError("no node has the address of Redis' master")

    def _ask_sentinel(self, sentinel: Node) -> Node | None:
        password = self.sentinel_password
        with self._client(sentinel, f":{quote(password, safe='')}@" if password else "") as client:
            found = client.sentinel_get_master_addr_by_name(self.service)
            return None if found is None else (str(found[0]), int(found[1]))

    def _ask_cluster(self, node: Node) -> Node:
        with self._client(node, self.login) as client:
            try:
                client.exists(key())
            except MovedError as moved:
                return moved.host or node[0], moved.port
            return node

    def _client(self, node: Node, login: str) -> Redis:
        return Redis.from_url(
            self.url(node, login),
            socket_timeout=ANSWER_TIMEOUT_S,
            socket_connect_timeout=ANSWER_TIMEOUT_S,
            decode_responses=True,
        )


class _Located:
    """A connection that finds the master when it connects."""

    def __init__(self, *, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate

    def _connect(self) -> Any:
        self.host, self.port = self._locate()
        return super()._connect()  # type: ignore[misc]  # of redis-py's connection

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except NOT_MASTER as error:
            self.disconnect()  # type: ignore[attr-defined]
            raise RedisConnectionError("the master has moved") from error


class _LocatedAsync:
    """A connection for asyncio that finds the master when it connects."""

    def __init__(self, *, locate: Locate, **options: Any) -> None:
        super().__init__(**options)
        self._locate = locate

    async def _connect(self) -> None:
        self.host, self.port = await asyncio.to_thread(self._locate)
        await super()._connect()  # type: ignore[misc]

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except NOT_MASTER as error:
            await self.disconnect()  # type: ignore[attr-defined]
            raise RedisConnectionError("the master has moved") from error


class LocatedConnection(_Located, Connection):
    """A connection by TCP."""


class LocatedSSLConnection(_Located, SSLConnection):
    """A connection by TLS."""


class AsyncLocatedConnection(_LocatedAsync, AsyncConnection):
    """A connection by TCP, for asyncio."""


class AsyncLocatedSSLConnection(_LocatedAsync, AsyncSSLConnection):
    """A connection by TLS, for asyncio."""


def connection_options(url: str, for_asyncio: bool = False) -> tuple[str, dict[str, Any]]:
    """Return a URL that redis-py can parse, and further options of its `from_url`."""
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
    """Return True for a URL that this module parses."""
    return urlsplit(url).scheme.endswith((SENTINEL, CLUSTER))
