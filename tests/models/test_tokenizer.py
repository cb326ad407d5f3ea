"""Token ids against transformers' CLIPTokenizer and against recorded prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from models.tokenizer import Tokenizer
from tests.published import SD15, SDXL
from tests.shared_files import shared_file

PROMPTS = [
    "",
    "a red cat",
    "THE   cat,\n at the theatre!! 3.14 isn't (good:1.3)",
    "naïve façade 東京 🐱 — “quoted”",
    "the cat! !",
    "<|endoftext|> the cat",
]


@pytest.fixture(scope="session")
def tokenizer(tiny_sd_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_sd_folder / "tokenizer")


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_rows_are_those_of_transformers(tiny_sdxl_folder: Path, part: str, prompt: str) -> None:
    folder = tiny_sdxl_folder / part
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    expected = theirs(prompt, padding="max_length", max_length=77, truncation=True).input_ids
    assert Tokenizer.from_folder(folder).rows(prompt)[0] == expected


@pytest.mark.parametrize(
    ("model", "part"), [(SD15, "tokenizer"), (SDXL, "tokenizer"), (SDXL, "tokenizer_2")]
)
def test_published_vocabularies(model: str, part: str) -> None:
    folder = shared_file(f"facts/checkpoints/configs/{model}/{part}")
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder)
    recorded = json.loads(
        shared_file("facts/checkpoints/fixtures/clip_tokenization.json").read_text("utf-8")
    )
    prompts = [case["text"] for case in recorded["prompts"]] + PROMPTS
    assert len(prompts) > 190
    for prompt in prompts:
        expected = theirs(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        assert ours.rows(prompt)[0] == expected, prompt


def test_long_prompts_take_one_row_for_every_75_tokens(tokenizer: Tokenizer) -> None:
    rows = tokenizer.rows("cat " * 160)
    assert [len(row) for row in rows] == [77, 77, 77]
    assert all(row[0] == tokenizer.start_id for row in rows)
    cat = tokenizer.tokens("cat")[0]
    assert [row.count(cat) for row in rows] == [75, 75, 10]
    assert rows[2][11:] == [tokenizer.end_id] * 66


def test_an_empty_prompt_has_one_row_or_as_many_as_asked(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.rows("")) == 1
    assert len(tokenizer.rows("", at_least=3)) == 3


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300))
def test_rows_hold_exactly_the_tokens(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.tokens(text)
    rows = tokenizer.rows(text)
    assert len(rows) == max(1, -(-len(tokens) // tokenizer.chunk))
    assert [token for row in rows for token in row[1 : 1 + 75]][: len(tokens)] == tokens
    assert all(len(row) == tokenizer.length for row in rows)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=100))
def test_the_serialised_form_counts_the_same_tokens(tokenizer: Tokenizer, text: str) -> None:
    elsewhere = Backend.from_str(tokenizer.to_json())
    assert elsewhere.encode(text, add_special_tokens=False).ids == tokenizer.tokens(text)
