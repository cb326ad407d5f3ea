"""ASGI middleware. `service.app` shows its order."""
