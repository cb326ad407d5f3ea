"""Word pieces against transformers' BertTokenizer, sentence pieces against sentencepiece itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.errors import UnsupportedConfig
from models.text.tokenizer import Tokenizer
from protocol.registry.tokenizer import PublishedTokenizer
from service.jobs.tokens import counter_of

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-()[]"
WORDS = ["the", "cat", "red", "painting", "##ing", "##s", "paint", "a", "of", "猫", "京"]


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a vocabulary in the form of bert-base-uncased; its special tokens are not the first."""
    folder = tmp_path_factory.mktemp("bert")
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(pieces)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    config = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


words = st.one_of(
    st.sampled_from([*WORDS, "Café", "PAINTINGS", "naïve", "x" * 120]), st.text(max_size=9)
)
# Theirs takes the name of a special token for the token.
special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
texts = (
    st.lists(words, max_size=12)
    .map(" ".join)
    .filter(lambda text: not any(name in text for name in special))
)


@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_word_pieces_are_those_of_transformers(bert_folder: Path, text: str) -> None:
    theirs = transformers.BertTokenizer.from_pretrained(bert_folder)
    expected = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
    tokenizer = Tokenizer.from_folder(bert_folder)
    (row, *more) = tokenizer.rows(text)
    assert len(row) == 77
    if not more:
        assert row == expected, ascii(text)


def test_the_names_of_special_tokens_are_text(bert_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(bert_folder)
    assert not {0, 2, 3, 4, 5} & set(tokenizer.tokens("[cls] [SEP] [PAD]"))


def test_vocabulary_without_special_tokens_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    words = (bert_folder / "vocab.txt").read_text("utf-8").replace("[SEP]\n", "")
    (tmp_path / "vocab.txt").write_text(words, "utf-8")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="lacks the tokens"):
        Tokenizer.from_folder(tmp_path)


# -- sentence pieces -----------------------------------------------------------------------------

SENTENCES = [
    "猫が赤い椅子に座っている",
    "サラリーマン 油絵",
    "東京の夜景、雨、ネオン",
    "犬と猫がベンチに座る",
    "the red cat sat on a chair",
    "an oil painting of a cat in tokyo",
]


def write_sentence_pieces(folder: Path, **options: object) -> Path:
    """Train and write a small model of the form that the Japanese Stable Diffusion has."""
    folder.mkdir(exist_ok=True)
    defaults: dict[str, Any] = {
        "vocab_size": 110,
        "hard_vocab_limit": False,
        "model_type": "unigram",
        "unk_id": 2,
        "bos_id": 0,
        "eos_id": 1,
        "pad_id": 3,
        "pad_piece": "[PAD]",
        "control_symbols": "[CLS],[SEP]",
        "user_defined_symbols": "[MASK],<star>",
        "minloglevel": 2,
    }
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(SENTENCES * 20),
        model_prefix=str(folder / "spiece"),
        **(defaults | options),
    )
    config = {
        "tokenizer_class": "T5Tokenizer",
        "do_lower_case": True,
        "model_max_length": 77,
        "extra_ids": 0,
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "[PAD]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def piece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_pieces(tmp_path_factory.mktemp("pieces"))


japanese = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *SENTENCES,
                "ＡＢＣ",
                "①",
                "ｶﾞ",
                "㌔",
                "[MASK]",
                "Tokyo",
                "x",
                "\u3000",
                "\t",
                "ねこ",
                "🐱🐱",
            ]
        ),
        st.text(alphabet="猫犬赤いがのにcatored ー、。", max_size=8),
    ),
    max_size=8,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=japanese)
def test_sentence_pieces_are_those_of_sentencepiece(piece_folder: Path, text: str) -> None:
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(piece_folder / "spiece.model"))
    tokenizer = Tokenizer.from_folder(piece_folder)
    expected = theirs.encode(text.lower())
    assert tokenizer.tokens(text) == expected, ascii(text)
    row = tokenizer.rows(text)[0]
    if len(expected) < 77:
        assert row == [*expected, 1] + [3] * (76 - len(expected))


@pytest.mark.parametrize("text", [*SENTENCES, "", "Red CAT", "  ねこ 🐱 "])
def test_rows_are_those_of_transformers(piece_folder: Path, text: str) -> None:
    theirs = transformers.T5Tokenizer.from_pretrained(piece_folder)
    expected = theirs(text.lower(), padding="max_length", max_length=77).input_ids
    assert Tokenizer.from_folder(piece_folder).rows(text)[0] == expected


def test_control_pieces_cannot_be_spelled(piece_folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(piece_folder)
    for text in ("</s>", "[PAD]", "[CLS]", "<unk>", "<s>"):
        assert not {0, 1, 3, 4, 5} & set(tokenizer.tokens(text)), text


@settings(max_examples=50, deadline=None)
@given(text=japanese)
def test_the_service_counts_the_same_pieces(piece_folder: Path, text: str) -> None:
    tokenizer = Tokenizer.from_folder(piece_folder)
    count = counter_of(PublishedTokenizer.model_validate_json(tokenizer.to_json()))
    assert count(text) == len(tokenizer.tokens(text))
    assert tokenizer.chunk == 76, "no start token"


def test_other_models_of_sentence_pieces_are_refused(tmp_path: Path) -> None:
    folder = write_sentence_pieces(tmp_path, model_type="bpe", vocab_size=70)
    with pytest.raises(UnsupportedConfig, match="only unigram models"):
        Tokenizer.from_folder(folder)


def test_a_damaged_model_is_refused(piece_folder: Path, tmp_path: Path) -> None:
    config = (piece_folder / "tokenizer_config.json").read_text()
    (tmp_path / "tokenizer_config.json").write_text(config)
    (tmp_path / "spiece.model").write_bytes(b"\xff" * 40)
    with pytest.raises(CheckpointError, match="no sentencepiece model"):
        Tokenizer.from_folder(tmp_path)


def test_a_model_without_its_padding_is_refused(piece_folder: Path, tmp_path: Path) -> None:
    config = json.loads((piece_folder / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "<pad>"}))
    (tmp_path / "spiece.model").write_bytes((piece_folder / "spiece.model").read_bytes())
    with pytest.raises(CheckpointError, match="lacks the tokens"):
        Tokenizer.from_folder(tmp_path)
