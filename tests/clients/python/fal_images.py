"""Actions of the Python package `fal-client`."""

import os
import time
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from tests.clients.python.lines import serve


def package(url: str, certificate: str) -> ModuleType:
    """Return the package, which reads its hosts when it is imported, and always uses https."""
    host = urlsplit(url).netloc
    os.environ["FAL_RUN_HOST"] = f"{host}/fal/run"
    os.environ["FAL_QUEUE_RUN_HOST"] = f"{host}/fal/queue"
    os.environ["SSL_CERT_FILE"] = certificate
    import fal_client

    return fal_client


def client(url: str, api_key: str, certificate: str) -> Any:
    return package(url, certificate).SyncClient(key=api_key)


def generate(url: str, api_key: str, certificate: str, app: str, **params: Any) -> Any:
    return client(url, api_key, certificate).run(app, params)


def queue(url: str, api_key: str, certificate: str, app: str, **params: Any) -> dict[str, Any]:
    """Submit a request, follow it, and ask for it by its id, too, whose address is put together."""
    fal, states = client(url, api_key, certificate), list[str]()
    handle = fal.submit(app, params, priority="low")
    logs = list[str]()
    for state in handle.iter_events(with_logs=True):
        states.append(type(state).__name__)
        logs += [line["message"] for line in getattr(state, "logs", None) or ()]
    found = fal.status(app, handle.request_id, with_logs=True)
    return {
        "states": states,
        "logs": logs,
        "state": type(found).__name__,
        "seconds": found.metrics["inference_time"],
        "result": handle.get(),
        "again": fal.result(app, handle.request_id),
    }


def subscribe(url: str, api_key: str, certificate: str, app: str, **params: Any) -> Any:
    return client(url, api_key, certificate).subscribe(app, params)


def stream(url: str, api_key: str, certificate: str, app: str, **params: Any) -> list[Any]:
    return list(client(url, api_key, certificate).stream(app, params))


def cancel(url: str, api_key: str, certificate: str, app: str, **params: Any) -> dict[str, Any]:
    """Cancel a request that has begun, and return its last state."""
    fal = client(url, api_key, certificate)
    handle = fal.submit(app, params)
    while type(handle.status()).__name__ == "Queued":
        time.sleep(0.05)
    fal.cancel(app, handle.request_id)
    while type(state := handle.status()).__name__ != "Completed":
        time.sleep(0.05)
    return {"error_type": state.error_type}


if __name__ == "__main__":
    actions = (generate, queue, subscribe, stream, cancel)
    serve({one.__name__: one for one in actions})
