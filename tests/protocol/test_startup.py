"""Settings are checked when a program starts: an error is one line, without passwords and keys."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.docs.settings_table import names
from protocol.listening import free_port
from protocol.setting_types import masked, masked_url
from protocol.settings import Settings
from protocol.startup import (
    InvalidSettings,
    check_readable_folder,
    check_writable_folder,
    exit_status,
    one_line,
    read_settings,
)
from protocol.storage.object_store import ObjectStore, check_store
from service.app import create_app
from service.http_protocol import server_config
from service.settings import ServiceSettings
from worker.settings import WorkerSettings

SECRET = "s3cret"
KINDS: tuple[type[Settings], ...] = (ServiceSettings, WorkerSettings)


def fault(kind: type[Settings], variables: Mapping[str, str]) -> str:
    """Return the error of a program that is started with these variables, "" if it starts."""
    with mock.patch.dict(os.environ, variables):
        try:
            read_settings(kind)
        except InvalidSettings as error:
            return str(error)
    return ""


@pytest.mark.parametrize(
    ("kind", "variables", "message"),
    [
        (Settings, {"PORT": "99999"}, 'PORT is "99999", but must be at most 65535'),
        (Settings, {"PORT": "http"}, 'PORT is "http", but must be an integer'),
        (Settings, {"HOST": "here:80"}, "without scheme, port or brackets"),
        (Settings, {"HOST": "http://here"}, "without scheme, port or brackets"),
        (Settings, {"HOST": "[::1]"}, "without scheme, port or brackets"),
        (Settings, {"HOST": "1.2.3.400"}, "an IP address or a host name"),
        (Settings, {"REDIS_URL": "localhost:6379"}, 'REDIS_URL is "localhost:6379", but must be a'),
        (Settings, {"REDIS_URL": SECRET}, 'REDIS_URL is "***", but must be a URL that begins with'),
        (Settings, {"REDIS_URL": f"http://u:{SECRET}@h"}, 'REDIS_URL is "http://***@h", but must'),
        (Settings, {"REDIS_URL": f"redis://:{SECRET}@h:0"}, '"redis://***@h:0", but must be a URL'),
        (Settings, {"REDIS_URL": f"redis://:{SECRET}"}, 'REDIS_URL is "redis://:***", but must be'),
        (Settings, {"REDIS_URL": f"redis://:a#{SECRET}@h"}, "written as %2F %3F %23"),
        (Settings, {"REDIS_URL": "redis://h:70000"}, "a port from 1 to 65535"),
        (Settings, {"REDIS_URL": "redis://h/jobs"}, "ends in the number of a database"),
        (Settings, {"REDIS_URL": "redis://[::1"}, "a host name or an IP address"),
        (Settings, {"REDIS_URL": "redis://a b"}, "a host name or an IP address"),
        (Settings, {"REDIS_URL": f"redis://h?decode_responses={SECRET}"}, "not decode_responses"),
        (Settings, {"REDIS_URL": f"redis://h?socket_timeout={SECRET}"}, "that redis-py takes"),
        (Settings, {"REDIS_URL": "redis://h?ssl_cert_reqs=none"}, "that redis-py takes"),
        (Settings, {"REDIS_URL": "rediss://h?ssl_ca_certs=/no/file"}, "not /no/file (No such file"),
        (Settings, {"REDIS_URL": f"rediss://h?ssl_ca_certs={__file__}"}, "PEM files"),
        (Settings, {"REDIS_URL": "unix://redis.sock"}, "as in unix:///run/redis.sock"),
        (Settings, {"REDIS_URL": "unix:///tmp"}, "not of a file or folder"),
        (Settings, {"REDIS_URL": f"unix:///{'a' * 120}"}, "at most 107 bytes"),
        (Settings, {"OBJECT_STORE_URL": "images"}, 'OBJECT_STORE_URL is "images", but must be a'),
        (Settings, {"OBJECT_STORE_URL": "s3://"}, "a bucket, as in s3://bucket"),
        (Settings, {"OBJECT_STORE_URL": f"s3://id:{SECRET}@b"}, 'is "s3://***@b", but must be'),
        (Settings, {"OBJECT_STORE_URL": f"s3://b?key={SECRET}"}, "without query and fragment"),
        (Settings, {"OBJECT_STORE_URL": "file:///a%00"}, "the whole path of a folder"),
        (ServiceSettings, {"DARKROOM_ALLOWED_HOSTS": "\x1b"}, r"brackets; \x1b is not"),
        (Settings, {"DARKROOM_DEVICE": "toaster"}, "auto, cpu, mps, cuda or a GPU by its number"),
        (Settings, {"DARKROOM_DEVICE": "cuda:\u0663"}, "a GPU by its number"),
        (Settings, {"DARKROOM_LOG_LEVEL": "loud"}, "one of debug, info, warning, error, critical"),
        (Settings, {"DARKROOM_LOG_PROMPTS": "maybe"}, "true or false"),
        (Settings, {"DARKROOM_RESULT_TTL_S": "-1"}, "at least 60"),
        (Settings, {"DARKROOM_RESULT_TTL_S": "9999999999"}, "at most 31536000 seconds (a year)"),
        (Settings, {"DARKROOM_MODEL": "a\nb"}, '"a\\nb", but must be text in UTF-8'),
        (Settings, {"DARKROOM_MODEL": "a\udcff"}, 'is "a\\udcff", but must be a string'),
        (Settings, {"DARKROOM_CATALOGUE": "a\udcff"}, "text in UTF-8 without control characters"),
        (Settings, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "a URL such as http://host:8000"),
        (Settings, {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{SECRET}@h"}, "without user, query"),
        (
            Settings,
            {"DARKROOM_JOB_LIFETIME_S": "100", "DARKROOM_JOB_TIMEOUT_S": "200"},
            "DARKROOM_JOB_LIFETIME_S is 100, but must be at least 200, DARKROOM_JOB_TIMEOUT_S",
        ),
        (ServiceSettings, {"DARKROOM_IMAGE_URL_TTL_S": "604801"}, "at most 604800"),
        (
            ServiceSettings,
            {"DARKROOM_IMAGE_URL_TTL_S": "7200", "DARKROOM_RESULT_TTL_S": "60"},
            "DARKROOM_RESULT_TTL_S is 60, but must be at least 7200, DARKROOM_IMAGE_URL_TTL_S",
        ),
        (ServiceSettings, {"DARKROOM_MAX_WAIT_S": "nan"}, "a finite number"),
        (ServiceSettings, {"DARKROOM_MAX_WAIT_S": "inf"}, "a finite number"),
        (ServiceSettings, {"DARKROOM_POLL_S": "1e-9"}, "at least 0.001 seconds"),
        (
            ServiceSettings,
            {"DARKROOM_MAX_BODIES_BYTES": "2000"},
            "DARKROOM_MAX_BODIES_BYTES is 2000, but must be at least 33554432",
        ),
        (ServiceSettings, {"DARKROOM_ADMIN_KEY": SECRET}, "must be at least 32 characters long"),
        (ServiceSettings, {"DARKROOM_ADMIN_KEY": f"{SECRET} " * 9}, "without spaces"),
        (ServiceSettings, {"DARKROOM_ADMIN_KEY": f"{SECRET}\udcff" * 9}, "ASCII"),
        (ServiceSettings, {"DARKROOM_ALLOWED_HOSTS": "a, http://b"}, "http://b is not"),
        (ServiceSettings, {"DARKROOM_ALLOWED_HOSTS": "a:80"}, "a:80 is not"),
        (ServiceSettings, {"DARKROOM_ALLOWED_HOSTS": "a,\udc80"}, "a list with commas, in UTF-8"),
        (ServiceSettings, {"DARKROOM_TRUSTED_PROXIES": "\udc80"}, "a list with commas, in UTF-8"),
        (Settings, {"DARKROOM_INSTALL_OWNERS": "\udc80"}, "a list with commas, in UTF-8"),
        (
            ServiceSettings,
            {"DARKROOM_DEFAULT_MODEL": "a/b"},
            "must be free of the character U+002F",
        ),
        (
            WorkerSettings,
            {"DARKROOM_WORKER_LEASE_S": "4"},
            "DARKROOM_WORKER_LEASE_S is 4.0, but must be at least 4.5, 3 times DARKROOM_WORKER_HEA",
        ),
        (WorkerSettings, {"DARKROOM_WORKER_HEARTBEAT_S": "3"}, "1/3 of DARKROOM_WORKER_LEASE_S"),
        (WorkerSettings, {"DARKROOM_WORKER_VAE_TILE": "65"}, "a multiple of 64"),
        (WorkerSettings, {"DARKROOM_WORKER_NAME": "a b"}, "1 to 100 characters out of"),
        (WorkerSettings, {"DARKROOM_WORKER_METRICS_HOST": "a:1"}, "without scheme, port"),
        (WorkerSettings, {"DARKROOM_WORKER_SLOTS": "9" * 5000}, "an integer of fewer digits"),
    ],
)
def test_error_names_variable_value_and_bound(
    kind: type[Settings], variables: dict[str, str], message: str
) -> None:
    found = fault(kind, variables)
    assert message in found
    assert any(name in found for name in variables)
    assert SECRET not in found
    assert found == one_line(found)


def test_all_invalid_settings_are_in_one_line() -> None:
    found = fault(ServiceSettings, {"PORT": "x", "DARKROOM_AUTH": "no"})
    assert found == (
        'PORT is "x", but must be an integer; '
        'DARKROOM_AUTH is "no", but must be one of auto, required, off'
    )


@pytest.mark.parametrize(
    "variables",
    [
        {"HOST": "::"},
        {"HOST": "my_host.example.org"},
        {"REDIS_URL": "redis:///1"},
        {"REDIS_URL": "redis://u:p%23@h:1/0?socket_timeout=3"},
        {"REDIS_URL": "unix://:pass@/run/a@b.sock?db=2"},
        {"OBJECT_STORE_URL": "file:///tmp/a@b%20c"},
        {"OBJECT_STORE_URL": "abfss://container@account.dfs.core.windows.net/path"},
        {"DARKROOM_IMAGE_URL_TTL_S": "604800"},
        {"DARKROOM_ALLOWED_HOSTS": "*.example.org, 10.0.0.1, ::1"},
        {"DARKROOM_PORT": "tcp://10.0.0.1:8000"},  # set by Kubernetes for a service "darkroom"
    ],
)
def test_usable_settings_are_accepted(variables: dict[str, str]) -> None:
    assert fault(ServiceSettings, variables) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_empty_variables_are_as_if_not_set(kind: type[Settings]) -> None:
    with mock.patch.dict(os.environ, dict.fromkeys(names(), "")):
        settings = kind()
    assert settings.model_fields_set == set()


VALUES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
    st.text("a,\udc80\udcff", max_size=5),  # bytes that are no UTF-8, as os.environ has them
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(["0", "1e400", "true", "auto", "off", "::", "[::1]:80", "~nobody/x", "*"]),
    st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["redis", "rediss", "unix", "redis+cluster", "redis+sentinel", "http"]),
        st.text("ab:@/?#[]%,1", max_size=12),
        st.sampled_from(["", "/0", "/a/b", "?db=1", "?ssl_ca_certs=/", "#"]),
        st.text("&=%\udcffé ", max_size=3),
    ),
    st.builds("{}://{}".format, st.sampled_from(["s3", "gs", "az", "abfss"]), st.text("a@:/?%1")),
)


@given(variables=st.dictionaries(st.sampled_from(names()), VALUES, min_size=1, max_size=4))
@settings(max_examples=60)
def test_any_values_give_settings_or_one_line(variables: dict[str, str]) -> None:
    for kind in KINDS:
        found = fault(kind, variables)
        assert found == one_line(found)
        assert not found or any(name in found for name in kind_variables(kind))


@given(variables=st.dictionaries(st.sampled_from(names()), VALUES, min_size=1, max_size=2))
@settings(max_examples=30)
def test_service_starts_with_all_settings_that_are_accepted(variables: dict[str, str]) -> None:
    if fault(ServiceSettings, variables):
        return
    with mock.patch.dict(os.environ, variables):
        accepted = read_settings(ServiceSettings)
    try:
        store = ObjectStore.open("memory:///")
        if accepted.object_store_url.startswith("s3://"):
            store = ObjectStore.open(accepted.object_store_url)
        app = create_app(accepted, store)
    except InvalidSettings as error:
        assert str(error) == one_line(str(error))
        return
    assert server_config(app, accepted).port == accepted.port


def kind_variables(kind: type[Settings]) -> list[str]:
    return [kind.variable(name) for name in kind.model_fields]


@settings(max_examples=40)
@given(
    password=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(
        lambda text: f"<{SECRET}{text}{SECRET}>"
    ),
    form=st.sampled_from(
        ["redis://:{}@h", "redis://u:{}@h:x/0", "x:{}@h", "redis+cluster://:{}@a,b"]
    ),
)
def test_passwords_are_masked_whatever_they_contain(password: str, form: str) -> None:
    url = form.format(password)
    assert SECRET not in masked(url)
    assert SECRET not in masked_url(url)
    assert SECRET not in fault(Settings, {"REDIS_URL": url})


def test_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below", Path("/proc/none"), tmp_path / ("a" * 300)):
        with pytest.raises(InvalidSettings, match="but must be a folder in which files can be"):
            check_writable_folder("DARKROOM_HOME", folder)
        with pytest.raises(InvalidSettings, match=r"OBJECT_STORE_URL is .* but must be a folder"):
            check_store(folder.as_uri())
    check_writable_folder("DARKROOM_HOME", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    check_readable_folder("DARKROOM_MODELS_HOME", tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match=r"DARKROOM_MODELS_HOME is .*file"):
        check_readable_folder("DARKROOM_MODELS_HOME", tmp_path / "file")


@pytest.mark.parametrize("url", ["memory:///", "az://container", "s3://a b"])
def test_store_that_cannot_be_used_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InvalidSettings, match=f'OBJECT_STORE_URL is "{url}", but must be') as found:
        check_store(url)
    assert str(found.value) == one_line(str(found.value))


def test_address_is_checked_before_the_start() -> None:
    assert free_port("127.0.0.1", 0) > 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidSettings, match=f"set PORT, such as PORT={port + 1}"):
            free_port("127.0.0.1", port)
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(InvalidSettings, match=f"{host} .*: HOST must be an address of this"):
            free_port(host, 0)


def test_exit_status_tells_errors_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(error: BaseException) -> int:
        def main() -> int:
            raise error

        return exit_status("program", main, (OSError,))

    assert fails(InvalidSettings("PORT is\nwrong")) == 2
    assert fails(OSError(28, "No space left on device", "out.png")) == 1
    assert fails(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == (
        "program: PORT is\\nwrong\nprogram: out.png: No space left on device\n"
    )
    with pytest.raises(ZeroDivisionError):
        fails(ZeroDivisionError())
