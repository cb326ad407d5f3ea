"""The bundled vocabulary against the CLIP tokenizer of transformers."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from models.text.tokenizer import Tokenizer
from training import vocabulary

TEXTS = ["red heart", "a slice of pizza", "crescent moon", "smiling face with heart-eyes"] * 3
TEXTS += ["red"] * 50
SIZE = 540


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    vocabulary.save(vocabulary.train(TEXTS, SIZE), path)
    return path


@pytest.mark.parametrize(
    "text", ["red heart", "Pizza, please!", "woman's hat 42", "Ünïcödé 🍕", "", "  two   spaces "]
)
def test_ids_equal_those_of_transformers(folder: Path, text: str) -> None:
    theirs = CLIPTokenizer.from_pretrained(folder)(text, padding="max_length", max_length=77)
    assert Tokenizer.from_folder(folder).rows(text)[0] == theirs.input_ids


def test_special_tokens_are_the_last_two(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert (tokenizer.vocabulary.start_id, tokenizer.vocabulary.end_id) == (SIZE - 2, SIZE - 1)


def test_frequent_words_are_single_tokens(folder: Path) -> None:
    assert len(Tokenizer.from_folder(folder).tokens("red")) == 1


def test_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not 5000"):
        vocabulary.train(TEXTS, 5000)
