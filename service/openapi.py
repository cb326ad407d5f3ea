"""The OpenAPI description of the service."""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.schemas.requests import REFERENCE, request_schemas

TITLE = "Darkroom"
DESCRIPTION = "Images from latent diffusion models, by HTTP. Every error is an RFC 9457 problem."


def openapi_schema(app: FastAPI) -> dict[str, Any]:
    """Return FastAPI's description, with the request bodies that the routes parse themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schema["components"]["schemas"].update(request_schemas())
        schema["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        schema["security"] = [{}, {"bearer": []}, {"key": []}]  # {}: no key, if none is needed
        app.openapi_schema = _named_by_titles(schema)
    return app.openapi_schema


def _named_by_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """Name each component by its title: a class may have another name than clients know."""
    components = schema["components"]["schemas"]
    titles = {name: component.get("title", name) for name, component in components.items()}
    schema["components"]["schemas"] = {titles[name]: components[name] for name in components}
    text = json.dumps(schema)
    for name, title in titles.items():
        text = text.replace(
            f'"{REFERENCE.format(model=name)}"', f'"{REFERENCE.format(model=title)}"'
        )
    renamed: dict[str, Any] = json.loads(text)
    return renamed
