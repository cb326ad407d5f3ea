"""Errors of a user of the command line: one line, exit status 2, before any work, no secret."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from darkroom.__main__ import main
from protocol.auth.api_keys import KeyRecords
from protocol.connection.redis_client import connect
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.early

SECRET = "s3cret"
NOWHERE = "http://127.0.0.1:1"
COMMAND = (sys.executable, "-m", "darkroom")

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the logging of programs that start in this process."""
    monkeypatch.setattr(logging.root, "handlers", logging.root.handlers[:])
    monkeypatch.setattr(logging.root, "level", logging.root.level)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that runs a command, checks how it fails, and returns its message."""

    def run(*arguments: str, status: int = 2) -> str:
        try:
            ended = main(list(arguments))
        except SystemExit as error:  # of argparse
            ended = int(str(error.code))
        printed = capsys.readouterr()
        assert (ended, printed.out) == (status, ""), printed
        [line] = printed.err.splitlines()
        assert SECRET not in line
        return line

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a\udcff"], "argument prompt: it is not text in UTF-8"),
        (["cat", "--model", "a\udcff"], "argument --model: it is not text in UTF-8"),
        (["cat", "--guidance", "nan"], "nan is not a finite number"),
        (["cat", "--lora", "pencil:inf"], "pencil:inf is not NAME:WEIGHT"),
        (["cat", "--size", "٣x٣"], "is not WIDTHxHEIGHT"),
        (["cat", "--image", "/dev/zero"], "/dev/zero must have at most 134217728 bytes"),
        (["cat", "--image", "/"], "/ cannot be read: Is a directory"),
        (["cat", "-o", "/nowhere/out.png"], "there is no folder /nowhere"),
        (["cat", "-o", "/proc/out.png"], "the folder of --output is"),
        (["cat", "-o", f"{'a' * 250}.png"], "File name too long"),
        (["cat", "--url", "localhost:8000"], "localhost:8000 must be a URL such as"),
        (["cat", "--url", "http://[::1"], "must be a URL with a host name"),
        (["cat", "--url", "http://h:99999"], "must be a URL with a port from 1 to 65535"),
        (["cat", "--url", f"http://me:{SECRET}@h"], "http://***@h must be a URL without user"),
        (["cat", "--url", f"ftp://h?{SECRET}"], "ftp://h?*** must be a URL such as"),
    ],
)
def test_invalid_arguments_of_generate_are_told(
    arguments: list[str], message: str, refused: Refused
) -> None:
    assert message in refused("generate", *arguments)


def test_output_that_is_a_folder_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "out.png").mkdir()
    assert "must be a file" in refused("generate", "cat", "-o", str(tmp_path / "out.png"))


@pytest.mark.parametrize("ending", ["é", "\udcff", " x", "\r\nA: b"])
@pytest.mark.parametrize("command", [["generate", "cat"], ["models"]])
def test_key_with_a_stray_byte_is_not_printed(
    command: list[str], ending: str, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_API_KEY", f"{SECRET}{ending}")
    message = refused(*command, "--url", NOWHERE)
    assert "DARKROOM_API_KEY (its value is not shown) must be" in message


@pytest.mark.parametrize("command", [["up"], ["models", "add", "x"]])
def test_home_that_cannot_be_written_to_is_told(
    command: list[str], refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    for home in (file, "/proc/none"):
        monkeypatch.setenv("DARKROOM_HOME", str(home))
        monkeypatch.setenv("DARKROOM_MODELS_HOME", str(home))
        assert "but must be a folder in which files can be created" in refused(*command)
    monkeypatch.delenv("DARKROOM_HOME")
    monkeypatch.delenv("DARKROOM_MODELS_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc")
    assert "/proc/.local/share/darkroom" in refused(*command)


def test_home_given_as_an_option_is_told(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--home is " in refused("up", "--home", str(tmp_path / "file"))
    assert "name of a folder is empty" in refused("up", "--home", "")


@pytest.mark.parametrize(
    ("command", "variables", "message"),
    [
        (["up"], {"DARKROOM_WORKER_SLOTS": "0"}, "DARKROOM_WORKER_SLOTS is"),
        (["up"], {"DARKROOM_AUTH": "no"}, "DARKROOM_AUTH is"),
        (["up"], {"HOST": "192.0.2.1"}, "HOST must be an address of this machine"),
        (["generate", "cat"], {"DARKROOM_AUTH": "no", "PORT": "1"}, "DARKROOM_AUTH is"),
        (["models"], {"HOST": "a:1"}, "HOST is"),
        (["models"], {"PORT": "1", "DARKROOM_CATALOGUE": "/"}, "DARKROOM_CATALOGUE: / cannot be"),
        (
            ["models", "check", "x"],
            {"DARKROOM_WORKER_LEASE_S": "nan"},
            "DARKROOM_WORKER_LEASE_S is",
        ),
        (["keys", "list"], {"REDIS_URL": f"redis://:{SECRET}@h:x"}, "REDIS_URL is"),
        (["keys", "list"], {"REDIS_URL": f"redis://:{SECRET}"}, "REDIS_URL is"),
        (
            ["worker", "--devices", "cpu"],
            {"DARKROOM_WORKER_TUNE_S": "-1"},
            "DARKROOM_WORKER_TUNE_S",
        ),
        (["worker", "--devices", "cpu,,cpu"], {}, "argument --devices"),
        (["api"], {"DARKROOM_MAX_WAIT_S": "0"}, "DARKROOM_MAX_WAIT_S is"),
        (["api"], {"OBJECT_STORE_URL": "file:///proc/none", "PORT": "0"}, "OBJECT_STORE_URL is"),
        (["api"], {"HOST": "192.0.2.1"}, "HOST must be an address of this machine"),
    ],
)
def test_invalid_settings_are_told_by_every_command(
    command: list[str],
    variables: dict[str, str],
    message: str,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DARKROOM_HOME", str(tmp_path))
    monkeypatch.setenv("OBJECT_STORE_URL", tmp_path.as_uri())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert message in refused(*command)


def test_too_few_ports_for_the_metrics_of_all_workers_are_told(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_WORKER_METRICS_PORT", "65535")
    message = refused("worker", "--devices", "cpu,cpu")
    assert "DARKROOM_WORKER_METRICS_PORT is" in message
    assert "at most 65534 for 2 workers" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", ""], "a name is text in UTF-8 of 1 to 100 characters"),
        (["create", "a\udcff"], "a name is text in UTF-8 of 1 to 100 characters"),
        (["create", "a" * 101], "a name is text in UTF-8 of 1 to 100 characters"),
        (["create", "me", "--jobs", "0"], "0 is not an integer from 1 to 9007199254740992"),
        (["create", "me", "--jobs", "9" * 20], "is not an integer from 1 to"),
        (["create", "me", "--scopes", ""], "there is no scope"),
        (["revoke", "a\udcff"], "it is not text in UTF-8"),
    ],
)
def test_invalid_arguments_of_keys_are_told(
    arguments: list[str], message: str, refused: Refused
) -> None:
    assert message in refused("keys", *arguments)


def test_redis_that_does_not_answer_is_told(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:{SECRET}@127.0.0.1:1/0")
    message = refused("keys", "list", status=1)
    assert message.startswith("darkroom: no Redis at redis://***@127.0.0.1:1/0: ")
    with RedisServer() as server:
        with connect(server.url) as redis:
            redis.config_set("requirepass", "another")
        monkeypatch.setenv("REDIS_URL", f"redis://:{SECRET}@127.0.0.1:{server.port}/0")
        assert "invalid username-password pair" in refused("keys", "list", status=1)


def test_misspelled_variable_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DARKROOM_MODLE", SECRET)
    monkeypatch.setenv("PORT", "1")
    assert main(["models"]) == 0
    assert capsys.readouterr().err == (
        "darkroom: warning: DARKROOM_MODLE is not a setting: is DARKROOM_MODEL meant?\n"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"_class_name": 1}'])
def test_model_that_cannot_be_read_is_told(
    content: str, refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").write_text(content)
    monkeypatch.setenv("DARKROOM_MODEL", str(tmp_path))
    monkeypatch.setenv("PORT", "1")
    assert "holds no model that can be read" in refused("models")


def ended(command: str, **variables: str) -> tuple[int, str]:
    """Run a shell command with $DARKROOM; return its exit status and what is on standard error."""
    environment = {**os.environ, "DARKROOM": " ".join(COMMAND), "PORT": "1", **variables}
    ran = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("$DARKROOM models | true", 0, ""),
        ("$DARKROOM keys create --help | true", 0, ""),
        ("$DARKROOM models >/dev/full", 1, "darkroom: No space left on device\n"),
        ("$DARKROOM models <&- >&-", 0, ""),
        ("PYTHONIOENCODING=ascii $DARKROOM models >/dev/null", 0, ""),
    ],
)
def test_output_that_cannot_be_written(command: str, status: int, message: str) -> None:
    assert ended(command) == (status, message)


def test_key_that_could_not_be_printed_is_revoked(redis_url: str) -> None:
    status, message = ended("$DARKROOM keys create me >/dev/full", REDIS_URL=redis_url)
    assert (status, message) == (1, "darkroom: No space left on device\n")
    with connect(redis_url) as redis:
        assert KeyRecords(redis).all() == {}


def test_text_in_brackets_is_printed_as_it_is(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("DARKROOM_MODEL", "owner/name[red]")
    assert main(["models"]) == 0
    assert main(["keys", "create", "me [/x]"]) == 0
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out.count("[") == 2
