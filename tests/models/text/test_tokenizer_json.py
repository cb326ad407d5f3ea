"""Vocabularies in tokenizer.json alone, as transformers 5 saves them, against transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoints.errors import CheckpointError
from models.text.tokenizer import Tokenizer
from protocol.registry.tokenizer import PublishedTokenizer
from service.jobs.tokens import counter_of
from tests.models.published.small_models import write_text_to_image
from tests.models.text.test_vocabularies import SENTENCES, write_sentence_pieces
from tests.support.tiny_models import write_tiny_sd

CLASSES = ("CLIPTokenizer", "BertTokenizer", "T5Tokenizer")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the older files of each class."""
    root: Path = tmp_path_factory.mktemp("sources")
    return {
        "CLIPTokenizer": write_tiny_sd(root / "sd") / "tokenizer",
        "BertTokenizer": write_text_to_image(root / "text") / "tokenizer",
        "T5Tokenizer": write_sentence_pieces(root / "pieces"),
    }


@pytest.fixture(scope="module")
def saved(sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the files that transformers saves."""
    root: Path = tmp_path_factory.mktemp("saved")
    for name, source in sources.items():
        getattr(transformers, name).from_pretrained(source).save_pretrained(root / name)
        assert {path.name for path in (root / name).iterdir()} == {
            "tokenizer.json",
            "tokenizer_config.json",
        }
    return {name: root / name for name in sources}


texts = st.lists(
    st.one_of(
        st.sampled_from([*SENTENCES, "the", "red", "cats", "Cat", " ", "\t", "ＡＢＣ", "㌔", "🐱"]),
        st.text(alphabet="猫犬赤いがのにcatored ー、。éÀ!?", max_size=6),
    ),
    max_size=6,
).map("".join)


@settings(max_examples=60)
@given(text=texts, name=st.sampled_from(CLASSES))
def test_rows_are_those_of_transformers(saved: dict[str, Path], text: str, name: str) -> None:
    reference: Any = getattr(transformers, name).from_pretrained(saved[name])
    tokenizer = Tokenizer.from_folder(saved[name])
    # transformers 5 ignores the `do_lower_case` of sentence pieces.
    read = text.lower() if name == "T5Tokenizer" else text
    expected = reference(read, add_special_tokens=False).input_ids
    if name == "CLIPTokenizer":
        read = "the red cat"  # other text is cleaned as in open_clip: see `test_tokenizer`
        expected = reference(read, add_special_tokens=False).input_ids
        text = read
    assert tokenizer.tokens(text) == expected, ascii(text)
    if len(expected) < tokenizer.chunk:
        padded = reference(read, padding="max_length", max_length=77).input_ids
        assert tokenizer.rows(text)[0] == padded
    counted = counter_of(PublishedTokenizer.model_validate_json(tokenizer.to_json()))
    assert counted(text) == len(expected)


@pytest.mark.parametrize("name", CLASSES)
def test_saved_files_give_the_rows_of_the_older_ones(
    sources: dict[str, Path], saved: dict[str, Path], name: str
) -> None:
    older, newer = (Tokenizer.from_folder(files[name]) for files in (sources, saved))
    for text in ("", "a red cat", *SENTENCES, "the </s> [PAD] <unk> [SEP] <|endoftext|>"):
        assert newer.rows(text) == older.rows(text), text


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("named", ["PreTrainedTokenizerFast", "TokenizersBackend", None])
def test_generic_class_is_read_by_its_vocabulary(
    saved: dict[str, Path], tmp_path: Path, name: str, named: str | None
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(saved[name], folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": named}))
    expected = Tokenizer.from_folder(saved[name]).rows("a red cat")
    assert Tokenizer.from_folder(folder).rows("a red cat") == expected


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("BertTokenizer", {"model": None}, "has no vocab of a WordPiece"),
        ("BertTokenizer", {"model": {"type": "BPE"}}, "is of type 'BPE', not 'WordPiece'"),
        ("T5Tokenizer", {"normalizer": {"type": "Lowercase"}}, "'Lowercase' is not supported"),
        ("T5Tokenizer", {"model": {"vocab": [["a", "b"]]}}, "no valid vocabulary"),
        ("T5Tokenizer", {"model": {"vocab": [["a", 0.0]], "unk_id": 9}}, "the unk_id 9"),
        ("CLIPTokenizer", {"model": {"vocab": {"a": 0}, "merges": [["a"]]}}, "no valid vocab"),
    ],
)
def test_damaged_vocabulary_is_refused(
    saved: dict[str, Path], tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(saved[name], folder)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_folder(folder)
