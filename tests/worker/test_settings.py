"""Settings are read from the environment, and invalid values are refused."""

import pytest
from pydantic import ValidationError

from worker.settings import WorkerSettings


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_WORKER_SLOTS", "3")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:1/2")
    settings = WorkerSettings()
    assert settings.worker_slots == 3
    assert settings.redis_url == "redis://elsewhere:1/2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLOTS", "0"),
        ("LEASE_S", "0"),
        ("LEASE_S", "nan"),
        ("LEASE_S", "4"),  # less than three heartbeats
        ("MAX_CRASHES", "2"),  # a stalled job must be tried alone
        ("METRICS_PORT", "70000"),
        ("DELIVERY_THREADS", "many"),
    ],
)
def test_invalid_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DARKROOM_WORKER_{name}", value)
    with pytest.raises(ValidationError):
        WorkerSettings()


def test_every_setting_is_documented() -> None:
    assert all(field.description for field in WorkerSettings.model_fields.values())
