"""Paths that need no key. Every other route is closed, so a new route is closed by default."""

from service.page_files import part_paths

HEALTH = frozenset({"/healthz", "/readyz"})
PAGES = frozenset({"/", "/docs", "/openapi.json"}) | part_paths()
METRICS = "/metrics"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
