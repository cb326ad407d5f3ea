"""ASGI middleware; `service.app` shows their order."""
