"""`darkroom certificate`: files that a worker takes, and none that is replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from darkroom.__main__ import main
from worker.output.content_credentials import open_credentials
from worker.output.signing_identity import read_identity
from worker.settings import WorkerSettings


def test_certificate_is_accepted_by_a_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "folder"
    assert main(["certificate", str(folder)]) == 0
    printed = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    for variable, value in printed.items():
        monkeypatch.setenv(variable, value)
    settings = WorkerSettings()
    assert settings.worker_c2pa_certificate == folder / "certificate.pem"
    assert settings.worker_c2pa_key == folder / "key.pem"
    identity = read_identity(settings)
    assert identity.is_development
    open_credentials("certificate", folder, identity)
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem"])
def test_no_file_is_replaced(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("mine")
    assert main(["certificate", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error == f"darkroom: {tmp_path / name} exists already, and is not replaced\n"
    assert (tmp_path / name).read_text() == "mine"


def test_missing_extra_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.commands.certificate.find_spec", lambda name: None)
    assert main(["certificate", str(tmp_path)]) == 1
    assert "certificates need darkroom[provenance]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
