"""Paths that need no API key. Every other route needs one, so a new route does by default."""

from service.page_files import asset_paths

HEALTH = frozenset({"/healthz", "/readyz"})
PAGES = frozenset({"/", "/docs", "/openapi.json"}) | asset_paths()
METRICS = "/metrics"
OWN_KEY = "/v1/key"  # for a key of any scope
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
