"""CLIP's token ids against those of open_clip, of transformers, and recorded ones."""

from __future__ import annotations

import importlib.util
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import models.text.cleaning
import protocol.registry.tokenizer
from models.checkpoints.checkpoint import CheckpointMissing
from models.checkpoints.errors import UnsupportedConfig
from models.text.tokenizer import Tokenizer, align_rows
from models.text.weighted_prompt import WeightedPrompt
from protocol.registry.tokenizer import PublishedTokenizer
from protocol.request.prompts import PromptSyntax, parse_prompt
from service.jobs.tokens import counter_of
from tests.support.published import SD15, SDXL
from tests.support.shared_files import shared_file

PROMPTS = [
    "",
    "a red cat",
    "THE   cat,\n at the theatre!! 3.14 isn't (good:1.3)",
    "naïve façade 東京 🐱",
    "the cat! !",
]

# Characters that no Unicode standard had yet assigned: letters to one library and punctuation to
# another.
UNASSIGNED: Final = "Cn"

# Typical text, and targets of cleaning: entities, wrong decodings, wide letters.
assigned = st.characters(exclude_categories=(UNASSIGNED, "Co", "Cs"))
texts = st.lists(
    st.one_of(
        st.text(assigned, max_size=8),
        st.sampled_from(
            [
                "cat",
                "isn't",
                "&amp;lt;",
                "&#x130;",
                "schÃ¶n",
                "“so”",
                "ＡＢＣ！",
                "ﬁ",
                "\u3000",
                "'S",
            ]
        ),
    ),
    max_size=12,
).map(" ".join)


@pytest.fixture(scope="session")
def tokenizer(tiny_sd_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(tiny_sd_folder / "tokenizer")


@pytest.fixture(scope="session")
def published() -> Tokenizer:
    return Tokenizer.from_folder(shared_file(f"facts/checkpoints/configs/{SD15}/tokenizer"))


@pytest.fixture(scope="session")
def open_clip() -> Callable[[str], list[int]]:
    """Return open_clip's tokenizer, from its own file: the package itself needs torchvision."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("open_clip is not installed")
    path = Path(spec.origin).parent / "tokenizer.py"
    file = importlib.util.spec_from_file_location("open_clip_tokenizer", path)
    assert file is not None
    assert file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    encode: Callable[[str], list[int]] = module.SimpleTokenizer().encode
    return encode


def recorded() -> list[dict[str, list[int]]]:
    path = shared_file("facts/checkpoints/fixtures/clip_tokenization.json")
    cases: list[dict[str, list[int]]] = json.loads(path.read_text("utf-8"))["prompts"]
    assert len(cases) == 196
    return cases


def test_ids_are_the_recorded_ones_of_open_clip(
    published: Tokenizer, open_clip: Callable[[str], list[int]]
) -> None:
    for case in recorded():
        text = str(case["text"])
        ids = case.get("open_clip", case["slow"])  # recorded apart where the two differ
        row = published.rows(text)[0]
        assert row[: len(ids)] == ids, text
        assert published.tokens(text) == open_clip(text), text


@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_ids_are_those_of_open_clip(
    published: Tokenizer, open_clip: Callable[[str], list[int]], text: str
) -> None:
    # Cleaning reads ":\xd5\x98" as ":\u0558", a letter since a later Unicode standard.
    assume(UNASSIGNED not in map(unicodedata.category, models.text.cleaning.clean(text)))
    assert published.tokens(text) == open_clip(text), ascii(text)


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
    # transformers does not clean text, and reads the name of a special token as the token.
    plain = [str(c["text"]) for c in recorded() if not {"fast", "open_clip"} & c.keys()] + PROMPTS
    assert len(plain) > 185
    for prompt in plain:
        expected = theirs(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        assert ours.rows(prompt)[0] == expected, prompt


def test_the_second_tokenizer_of_sdxl_reads_an_exclamation_mark_as_padding() -> None:
    folder = shared_file(f"facts/checkpoints/configs/{SDXL}/tokenizer_2")
    assert Tokenizer.from_folder(folder).rows("a cat! !")[0][:6] == [49406, 320, 2368, 0, 0, 49407]


def test_a_prompt_that_spells_a_special_token_is_text(published: Tokenizer) -> None:
    ids = published.tokens("the end <|endoftext|> <|startoftext|>")
    assert not {49406, 49407} & set(ids)


def test_long_prompts_take_one_row_for_every_75_tokens(tokenizer: Tokenizer) -> None:
    rows = tokenizer.rows("cat " * 160)
    assert [len(row) for row in rows] == [77, 77, 77]
    assert all(row[0] == tokenizer.vocabulary.start_id for row in rows)
    cat = tokenizer.tokens("cat")[0]
    assert [row.count(cat) for row in rows] == [75, 75, 10]
    assert rows[2][11:] == [tokenizer.vocabulary.end_id] * 66


def test_empty_prompt_has_one_row_or_as_many_as_requested(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.rows("")) == 1
    assert len(tokenizer.rows("", at_least=3)) == 3


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_rows_hold_exactly_the_tokens(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.tokens(text)
    rows = tokenizer.rows(text)
    assert len(rows) == max(1, -(-len(tokens) // tokenizer.chunk))
    assert [token for row in rows for token in row[1 : 1 + 75]][: len(tokens)] == tokens
    assert all(len(row) == tokenizer.length for row in rows)


def test_every_token_has_the_weight_of_its_piece(tokenizer: Tokenizer) -> None:
    rows = tokenizer.weighted_rows([("the cat", 1.0), ("red " * 80, 1.5), ("cat", 0.5)])
    red, cat = tokenizer.tokens("red")[0], tokenizer.tokens("cat")[0]
    pairs = [
        list(zip(ids, weights, strict=True))
        for ids, weights in zip(rows.ids, rows.weights, strict=True)
    ]
    assert [pair for row in pairs for pair in row if pair[0] == red] == [(red, 1.5)] * 80
    assert [pair for row in pairs for pair in row if pair[0] == cat] == [(cat, 1.0), (cat, 0.5)]
    assert [row[0][1] for row in pairs] == [1.0, 1.0]
    assert {weight for _, weight in pairs[1][9:]} == {1.0}


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_the_service_counts_the_same_tokens(tokenizer: Tokenizer, text: str) -> None:
    extended = tokenizer.with_tokens({"my-cat": 3, "plain": 1})
    count = counter_of(PublishedTokenizer.model_validate_json(extended.to_json()))
    for each in (text, f"{text} my-cat (plain)"):
        assert count(each) == len(extended.tokens(each))


@pytest.fixture(scope="session")
def both_of_sdxl() -> list[Tokenizer]:
    folder = shared_file(f"facts/checkpoints/configs/{SDXL}")
    return [Tokenizer.from_folder(folder / part) for part in ("tokenizer", "tokenizer_2")]


@pytest.fixture(scope="session")
def count_for_sdxl(both_of_sdxl: list[Tokenizer]) -> Callable[[str], int]:
    first, second = both_of_sdxl
    return counter_of(PublishedTokenizer.model_validate_json(first.to_json(second)))


# The two differ in runs of punctuation: "!!!" is one token to the first, three to the second.
signs = st.text("!?.() cat", max_size=400)


@settings(max_examples=100, deadline=None)
@given(text=signs, more=signs)
def test_service_counts_the_rows_of_both_text_encoders_of_sdxl(
    both_of_sdxl: list[Tokenizer], count_for_sdxl: Callable[[str], int], text: str, more: str
) -> None:
    prompts = [
        parse_prompt(text, PromptSyntax.PLAIN),
        parse_prompt(f"({text}:1.2) {more} BREAK {text}"),
    ]
    for prompt, exact in zip(prompts, (True, False), strict=True):
        first, second = align_rows(both_of_sdxl, WeightedPrompt(prompt.sections))
        most = max(1, -(-prompt.tokens(count_for_sdxl, 75) // 75))
        assert len(first.ids) == len(second.ids)
        assert len(first.ids) == most if exact else len(first.ids) <= most


def test_count_is_that_of_the_encoder_with_most_tokens(
    count_for_sdxl: Callable[[str], int],
) -> None:
    assert [count_for_sdxl(text) for text in ("a cat", "!!!", "???????!", "")] == [2, 3, 3, 0]


@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_service_and_worker_clean_text_equally(text: str) -> None:
    assert protocol.registry.tokenizer.clean(text) == models.text.cleaning.clean(text)


def test_added_word_has_its_ids_and_matches_alone(published: Tokenizer) -> None:
    extended = published.with_tokens({"My-Cat": 3, "polka-dot": 1})
    first = 49408
    assert extended.tokens("a my-cat, MY-CAT") == [
        320, first, first + 1, first + 2, 267, first, first + 1, first + 2,
    ]  # fmt: skip
    assert extended.tokens("my-cat_2") == [first + 2]
    assert extended.tokens("<polka-dot>") == [published.tokens("<")[0], first + 3, 285]
    for text in ("my-cats", "polka-dotted", "a-polka dot"):
        assert extended.tokens(text) == published.tokens(text)
    assert published.tokens("my-cat") != extended.tokens("my-cat")


def test_words_can_be_added_in_turn(published: Tokenizer) -> None:
    both = published.with_tokens({"one-a": 2}).with_tokens({"two-b": 2})
    assert both.tokens("two-b one-a") == [49410, 49411, 49408, 49409]


def test_word_of_the_vocabulary_cannot_be_added(published: Tokenizer) -> None:
    with pytest.raises(ValueError, match="has cat already"):
        published.with_tokens({"cat": 1})
    with pytest.raises(ValueError, match="has my-cat_1 already"):
        published.with_tokens({"my-cat": 2}).with_tokens({"my-cat_1": 1})


def test_an_unknown_class_of_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(UnsupportedConfig, match=r"LlamaTokenizer.*have CLIPTokenizer"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ("{}", "none of merges.txt, vocab.txt, spiece.model"),
        ('{"tokenizer_class": "CLIPTokenizerFast"}', "vocab.json is missing"),
        ('{"tokenizer_class": "BertTokenizer"}', "vocab.txt is missing"),
        ('{"tokenizer_class": "T5Tokenizer"}', "spiece.model is missing"),
    ],
)
def test_missing_files_are_named(tmp_path: Path, config: str, missing: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(CheckpointMissing, match=missing):
        Tokenizer.from_folder(tmp_path)


def test_learned_word_is_not_cut_at_the_end_of_a_row(published: Tokenizer) -> None:
    extended = published.with_tokens({"my-cat": 4})
    first = extended.tokens("my-cat")
    for before in range(70, 77):
        rows = extended.rows("cat " * before + "my-cat cat")
        [kept] = [row for row in rows if first[0] in row]
        assert kept[(place := kept.index(first[0])) : place + 4] == first
        assert [sum(i in first for i in row) for row in rows].count(4) == 1
        assert len(rows) == (1 if before == 70 else 2)
        assert kept is (rows[0] if before <= 71 else rows[1])
    halves = extended.weighted_rows([("cat " * 40, 1.0), ("my-cat " * 9, 1.2)])
    assert [sum(i in first for i in row) for row in halves.ids] == [32, 4]
