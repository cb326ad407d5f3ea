"""The dialect of ComfyUI: its routes, also under `/api`, and its WebSocket."""

from fastapi import APIRouter

from service.dialects.comfyui import (
    history,
    object_info,
    prompting,
    queue,
    system,
    uploads,
    view,
    websocket,
)
from service.dialects.comfyui.errors import COMFYUI_ERRORS
from service.dialects.dialect import Dialect
from service.settings import DialectName

PREFIXES = ("", "/api")
PATHS = (
    *("/prompt", "/queue", "/interrupt", "/history", "/view", "/upload", "/ws", "/free"),
    *("/object_info", "/system_stats", "/embeddings", "/extensions", "/features"),
)
GET_PATHS = ("/models",)  # of other dialects with other methods
UNCOUNTED = ("/queue", "/interrupt", "/history", "/free", "/upload/image", "/upload/mask")
PARTS = (
    *(prompting.router, queue.router, history.router, view.router, uploads.router),
    *(object_info.router, system.router, websocket.router),
)


def _router() -> APIRouter:
    router = APIRouter(tags=[DialectName.COMFYUI])
    for prefix in PREFIXES:
        for part in PARTS:
            router.include_router(part, prefix=prefix, include_in_schema=not prefix)
    return router


COMFYUI = Dialect(
    name=DialectName.COMFYUI,
    description="ComfyUI, for its clients.",
    router=_router(),
    errors=dict.fromkeys(
        (
            *(f"{prefix}{path}" for prefix in PREFIXES for path in PATHS),
            *(f"GET {prefix}{path}" for prefix in PREFIXES for path in GET_PATHS),
        ),
        COMFYUI_ERRORS,
    ),
    uncounted=frozenset(f"{prefix}{path}" for prefix in PREFIXES for path in UNCOUNTED),
)
