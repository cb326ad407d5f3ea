"""API keys for tests of a running service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from protocol.auth.api_keys import ApiKey, KeyLimits, KeyRecords, Scope

if TYPE_CHECKING:  # the fixtures there create keys
    from tests.service.conftest import Running

ADMIN_KEY = "an-admin-key-of-thirty-two-characters-or-more"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


def key_for(service: Running, *scopes: Scope, **limits: int) -> dict[str, str]:
    """Create a key and return its headers."""
    return _created(service, scopes, KeyLimits(**limits), None)


def key_with_webhook(service: Running, url: str) -> dict[str, str]:
    """Create a key whose jobs call `url` when they end, and return its headers."""
    return _created(service, (), KeyLimits(), url)


def _created(
    service: Running, scopes: tuple[Scope, ...], limits: KeyLimits, webhook_url: str | None
) -> dict[str, str]:
    chosen = frozenset(scopes or (Scope.GENERATE, Scope.READ))
    token, record = ApiKey.create("a client", chosen, limits, 0.0, webhook_url)
    KeyRecords(service.worker.redis).add(record)
    time.sleep(0.3)  # unknown keys are read again after a quarter of a second at the earliest
    return {"Authorization": f"Bearer {token}"}
