"""The object store, in a folder and in memory."""

import resource
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import StoreUnavailable, UnknownImage
from protocol.request.object_keys import (
    Extra,
    ExtraFormat,
    OutputFormat,
    extra_key,
    input_key,
    is_job_id,
    is_key,
    job_of,
    new_job_id,
    result_key,
)
from protocol.storage.object_store import PAGE, ObjectStore

KEY = result_key("0" * 32, 0, OutputFormat.PNG)


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    url = "memory:///" if request.param == "memory" else (tmp_path / "pic tures").as_uri()
    return ObjectStore.open(url)


def test_stored_objects_can_be_read(store: ObjectStore) -> None:
    store.put(KEY, b"one", "image/png")
    store.put(KEY, b"two", "image/png")
    assert store.get(KEY) == b"two"
    assert store.presign(KEY, 60) is None


def test_deleted_objects_are_gone(store: ObjectStore) -> None:
    store.put(KEY, b"one", "image/png")
    store.delete(KEY)
    store.delete(KEY)
    with pytest.raises(UnknownImage):
        store.get(KEY)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "..",
        "/etc/passwd",
        "inputs/../../etc/passwd",
        f"inputs/{'0' * 63}/",
        f"inputs/{'0' * 64}\n",
        f"{KEY}/..",
        KEY.replace("png", "svg"),
        KEY.replace("0.png", "0.depth.jpeg"),
        KEY.replace("0.png", "0.else.png"),
        KEY.replace("results", "Results"),
        KEY.replace("0.png", "..%2f0.png"),
        KEY.replace("0.png", "\0.png"),
    ],
)
def test_other_keys_are_refused(store: ObjectStore, key: str) -> None:
    for use in (store.get, store.delete, lambda key: store.presign(key, 60)):
        with pytest.raises(ValueError, match="not an object key"):
            use(key)
    with pytest.raises(ValueError, match="not an object key"):
        store.put(key, b"", "image/png")


@given(st.text())
def test_no_key_leads_out_of_the_folder(text: str) -> None:
    for key in (text, f"inputs/{text}", f"results/{text}/0.png"):
        assert not is_key(key) or not {"..", "//", "\\", "\0"} & set(key.split("/"))


def test_folder_has_complete_files_only(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path.as_uri())
    store.put(KEY, b"one", "image/png")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / KEY]


def test_folder_deleted_meanwhile_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is deleted with its last file, by another process."""
    store = ObjectStore.open(tmp_path.as_uri())
    opening, opened = Path.open, []

    def lose_and_open(path: Path, mode: str = "r", *more: object) -> object:
        opened.append(path)
        if len(opened) == 1:
            path.parent.rmdir()
        return opening(path, mode, *more)  # type: ignore[call-overload]  # its own arguments

    monkeypatch.setattr(Path, "open", lose_and_open)
    store.put(KEY, b"one", "image/png")
    assert len(opened) == 2
    assert store.get(KEY) == b"one"


def test_full_disk_leaves_the_old_file_only(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path.as_uri())
    store.put(KEY, b"old", "image/png")
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        with pytest.raises(StoreUnavailable):
            store.put(KEY, b"new" * 1000, "image/png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
        signal.signal(signal.SIGXFSZ, ignored)
    assert store.get(KEY) == b"old"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / KEY]


def test_other_errors_of_a_folder_are_store_unavailable(tmp_path: Path) -> None:
    store = ObjectStore.open(tmp_path.as_uri())
    (tmp_path / "results").write_bytes(b"a file where a folder should be")
    with pytest.raises(StoreUnavailable):
        store.put(KEY, b"one", "image/png")
    with pytest.raises(StoreUnavailable):
        store.get(KEY)


def test_bucket_signs_urls_and_its_outage_is_store_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": "http://127.0.0.1:9",  # a closed port
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = ObjectStore.open("s3://images/here")
    url = store.presign(KEY, 60)
    assert url is not None
    assert f"/images/here/{KEY}?" in url
    assert "X-Amz-Expires=60" in url
    assert "secret" not in url
    with pytest.raises(StoreUnavailable):
        store.get(KEY)


@pytest.mark.parametrize(
    ("kind", "file_format", "content_type"),
    [
        (Extra.DEPTH, ExtraFormat.PNG, "image/png"),
        (Extra.SOUND, ExtraFormat.WAV, "audio/wav"),
        (Extra.SOUND, ExtraFormat.FLAC, "audio/flac"),
        (Extra.SOUND, ExtraFormat.MP3, "audio/mpeg"),
    ],
)
def test_extra_outputs_are_stored_under_their_job(
    store: ObjectStore, kind: Extra, file_format: ExtraFormat, content_type: str
) -> None:
    key = extra_key("0" * 32, 3, kind, file_format)
    assert file_format.content_type == content_type
    store.put(key, b"depth", content_type)
    assert store.get(key) == b"depth"
    assert job_of(key) == "0" * 32


def test_input_key_is_a_digest_of_the_content() -> None:
    assert input_key(b"x") == input_key(b"x") != input_key(b"y")
    assert is_key(input_key(b"x"))


def test_job_ids_are_unique_and_recognised() -> None:
    ids = {new_job_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(map(is_job_id, ids))
    for text in ("", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n"):
        assert not is_job_id(text)


def test_only_old_objects_are_listed(store: ObjectStore) -> None:
    keys = sorted(result_key(new_job_id(), 0, OutputFormat.PNG) for _ in range(2 * PAGE + 1))
    for key in keys:
        store.put(key, b"one", "image/png")
    store.put(input_key(b"x"), b"x", "image/png")
    now = datetime.now(UTC)
    pages = list(store.older_than("results", now + timedelta(seconds=10)))
    assert sorted(key for page in pages for key in page) == keys
    assert len(pages) == 3
    assert not any(store.older_than("results", now - timedelta(seconds=60)))
