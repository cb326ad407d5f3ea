"""Fixtures of the tests with client packages: one stack, and one process of each client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pytest

from tests.clients.clients import Client
from tests.clients.environments import RegistryUnreachable
from tests.clients.processes import ClientProcess
from tests.clients.stack import Stack, client_stack

Start = Callable[[Client], ClientProcess]
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start the stack that all clients use."""
    with client_stack(tmp_path_factory.mktemp("clients")) as stack:
        yield stack


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Return what starts the process of a client, once; skips if it cannot be installed."""
    with ExitStack() as exits:
        processes: dict[str, ClientProcess] = {}
        unreachable: dict[str, str] = {}  # environment -> the reason

        def start(client: Client) -> ClientProcess:
            if client.name not in processes and client.environment not in unreachable:
                try:
                    processes[client.name] = exits.enter_context(client.started())
                except RegistryUnreachable as error:
                    unreachable[client.environment] = str(error)
            if client.environment in unreachable:
                pytest.skip(f"{client.environment}: {unreachable[client.environment]}")
            return processes[client.name]

        yield start


@pytest.fixture
def ask(client: Client, start: Start, stack: Stack) -> Ask:
    """Return what calls an action of a client package, with the address of the stack and a key."""
    process = start(client)
    return partial(process, url=stack.url, api_key=stack.key)


@pytest.fixture
def native(stack: Stack) -> Iterator[httpx.Client]:
    """Return a client of the native API, with the key of the clients."""
    headers = {"Authorization": f"Bearer {stack.key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=300) as client:
        yield client


@pytest.fixture
def keyless(stack: Stack) -> Iterator[httpx.Client]:
    """Return a client without a key."""
    with httpx.Client(base_url=stack.url, timeout=300) as client:
        yield client
