"""Settings are read from the environment, and invalid ones are refused."""

import pytest
from pydantic import ValidationError

from protocol.settings import Settings


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "unix:///run/redis.sock?db=1")
    monkeypatch.setenv("OBJECT_STORE_URL", "s3://images")
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("DARKROOM_MAX_QUEUE_LENGTH", "3")
    settings = Settings()
    assert settings.redis_url.startswith("unix://")
    assert settings.object_store_url == "s3://images"
    assert (settings.port, settings.max_queue_length) == (9000, 3)


def test_empty_catalogue_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_CATALOGUE", "")
    assert Settings().catalogue is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("OBJECT_STORE_URL", "images"),
        ("OBJECT_STORE_URL", "file://images/here"),
        ("PORT", "70000"),
        ("PORT", "http"),
        ("DARKROOM_MAX_QUEUE_LENGTH", "0"),
        ("DARKROOM_DEVICE", "toaster"),
        ("DARKROOM_RESULT_TTL_S", "-1"),
    ],
)
def test_invalid_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())
