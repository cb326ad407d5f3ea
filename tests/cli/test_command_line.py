"""What the command line says: help for every command, a sentence for every expected fault."""

import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: darkroom {command}" in capsys.readouterr().out


def test_the_command_alone_names_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert name in text
        assert command.HELP in text


def test_generate_names_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    text = capsys.readouterr().out
    options = "output steps seed size sampler guidance url lora image mask upscale hires refiner"
    for option in (f"--{name}" for name in options.split()):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-o", "heart.gif"], "heart.gif must end in .png, .jpg, .jpeg, .webp"),
        (["--size", "512"], "512 is not WIDTHxHEIGHT"),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--lora", "pencil:much"], "pencil:much is not NAME:WEIGHT"),
        (["--image", "nowhere.png"], "nowhere.png cannot be read: No such file or directory"),
    ],
)
def test_generate_refuses_nonsense(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "red heart", *arguments])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("command", [["generate", "red heart"], ["models"]])
def test_a_server_that_was_named_must_answer(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--url", "http://127.0.0.1:1"]) == 1
    assert "no Darkroom answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_refused_settings_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PORT", "99999")
    assert main(["up", "--home", str(tmp_path)]) == 1
    assert "PORT: Input should be less than or equal to 65535" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HOST", "192.0.2.1")  # TEST-NET-1: no machine has it
    assert main(["up", "--home", str(tmp_path)]) == 1
    assert "cannot listen on 192.0.2.1" in capsys.readouterr().err


def test_the_installed_command_is_this_one() -> None:
    command = Path(sys.executable).parent / "darkroom"
    ran = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "usage: darkroom" in ran.stdout
