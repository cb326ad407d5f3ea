"""Names of any script are kept, unsafe ones are refused, and each finds its own file again."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.errors import CheckpointError
from models.checkpoints.names import (
    MAX_BYTES,
    MAX_LENGTH,
    _log_left_out,
    by_name,
    checked_name,
    default_name,
    name_problem,
    normal_form,
)
from protocol.request.fields import ServedName

# Mostly letters, marks and digits of all scripts, with what is unsafe in names.
TEXT = st.text(
    st.one_of(
        st.characters(categories=["L", "M", "N"]),
        st.sampled_from('/\\:*?"<>|. -_()\0\n\x7f\u200b\u202e\u2066\ufeff\u3000\udcff'),
        st.characters(),
    ),
    max_size=300,
)
SERVED: TypeAdapter[str] = TypeAdapter(ServedName)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/loras/モデル v2.safetensors", "モデル-v2"),
        ("owner/Модель-v1.5", "Модель-v1.5"),
        ("cafe\u0301.ckpt", "caf\u00e9"),
        ("हिन्दी.pt", "हिन्दी"),
        ("한국어 (최종)/", "한국어-최종"),
        ("invoice\u202egnp.safetensors", "invoice-gnp"),
        ("NUL.safetensors", "model-NUL"),
        ("...", "model"),
        ("🎨.safetensors", "model"),
    ],
)
def test_default_names_keep_letters_of_every_script(source: str, name: str) -> None:
    assert default_name(source) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", " x", "x ", "x.", "a/b", "a\\b", "a:b", "a?", "<a>", "a\nb", "a\0b",
     "a\u202eb", "a\u200bb", "a\u2066b", "a\ufeff", "a\u00a0b", "a\udcff", "CON", "aux.v1", "com1",
     "x" * (MAX_LENGTH + 1), "猫" * (MAX_BYTES // 3 + 1)],
)  # fmt: skip
def test_unsafe_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no name"):
        ModelStore(tmp_path).path("lora", name)
    assert ModelStore(tmp_path).find_any(name) == []


@given(TEXT)
def test_every_source_has_a_valid_default_name(source: str) -> None:
    name = default_name(source)
    assert name_problem(name) is None
    assert default_name(name) == name
    assert SERVED.validate_python(name) == name


@given(TEXT)
def test_a_valid_name_is_one_part_of_a_path_and_may_be_served(text: str) -> None:
    """The two packages that share no code agree: every name of a file may be served."""
    try:
        name = checked_name(text)
    except CheckpointError:
        return
    assert unicodedata.is_normalized("NFC", name)
    assert Path("folder", name).name == name
    assert len(f"{name}.safetensors".encode()) <= 255
    assert SERVED.validate_python(text) == name


@given(TEXT)
def test_unsafe_characters_are_in_no_served_name(text: str) -> None:
    try:
        name = SERVED.validate_python(text)
    except ValidationError:
        return
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>|')


@given(st.lists(TEXT.map(normal_form).filter(lambda n: name_problem(n) is None), unique=True))
def test_names_of_a_folder_are_found_again(names: list[str]) -> None:
    found = by_name((unicodedata.normalize("NFD", name), name) for name in names)
    assert found == {name: name for name in sorted(names)}


def test_files_without_a_valid_name_are_left_out_once(caplog: pytest.LogCaptureFixture) -> None:
    _log_left_out.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = by_name([("fine", 1), ("a\u202eb", 2), ("cafe\u0301", 3), ("caf\u00e9", 4)])
    assert found == {"caf\u00e9": 3, "fine": 1}
    reasons = {r.__dict__["file"]: r.__dict__["reason"] for r in caplog.records}
    assert len(caplog.records) == 2
    assert "U+202E" in reasons[r"'a\u202eb'"]
    assert "another" in reasons["'caf\u00e9'"]
