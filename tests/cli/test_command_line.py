"""Tests of the command line's help texts and error messages."""

import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: darkroom {command}" in capsys.readouterr().out


def test_main_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in text
        assert command.HELP in text


def test_generate_help_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    text = capsys.readouterr().out
    options = "output steps seed size sampler guidance url lora image mask upscale hires refiner"
    for option in (f"--{name}" for name in options.split()):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "heart.gif"], "heart.gif must end in .png, .jpg, .jpeg, .webp, .avif"),
        (["--size", "512"], "512 is not WIDTHxHEIGHT"),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--lora", "pencil:much"], "pencil:much is not NAME:WEIGHT"),
        (["--image", "nowhere.png"], "nowhere.png cannot be read: No such file or directory"),
    ],
)
def test_generate_refuses_invalid_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "red heart", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["generate", "red heart"], ["models"]])
def test_unreachable_url_is_an_error(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--url", "http://127.0.0.1:1"]) == 1
    assert "no Darkroom answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_invalid_settings_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PORT", "99999")
    assert main(["up", "--home", str(tmp_path)]) == 2
    assert capsys.readouterr().err == 'darkroom: PORT is "99999", but must be at most 65535\n'


def test_address_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HOST", "192.0.2.1")  # TEST-NET-1: no machine has it
    assert main(["up", "--home", str(tmp_path)]) == 2
    assert "cannot listen on 192.0.2.1" in capsys.readouterr().err


def test_installed_command_runs_this_module() -> None:
    command = Path(sys.executable).parent / "darkroom"
    ran = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "usage: darkroom" in ran.stdout
