"""Tokens added to a published tokenizer, against transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models.checkpoints.errors import CheckpointError
from models.conditioners.clip import ClipConditioner
from models.loading.inspection import inspect_checkpoint
from models.loading.loader import load_model
from models.text.tokenizer import Tokenizer
from protocol.registry.tokenizer import PublishedTokenizer
from service.jobs.tokens import counter_of
from tests.models.text.test_vocabularies import write_sentence_pieces
from tests.support.tiny_models import write_tiny_sd

FLAGS = ("lstrip", "rstrip", "single_word", "normalized")


def write(folder: Path, base: Path, **files: dict[str, Any]) -> Path:
    """Copy the tokenizer of `base`, with these entries added to its JSON files."""
    shutil.copytree(base, folder)
    for name, entries in files.items():
        path = folder / f"{name}.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(known | entries))
    return folder


@pytest.fixture(scope="module")
def base(tiny_sd_folder: Path) -> Path:
    return tiny_sd_folder / "tokenizer"


@pytest.fixture(scope="module")
def size(base: Path) -> int:
    return len(json.loads((base / "vocab.json").read_text()))


def theirs(folder: Path) -> Any:
    return transformers.CLIPTokenizer.from_pretrained(folder)


def entry(content: str, **flags: bool) -> dict[str, Any]:
    return {"content": content, **dict.fromkeys(FLAGS, False), "special": False, **flags}


def forms(size: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the added files for each way of publishing the same tokens."""
    tokens = {"<cat-toy>": size, "Foo": size + 1, "<s*>": size + 2}
    decoder = {str(number): entry(token, normalized=True) for token, number in tokens.items()}
    return {
        "added_tokens.json": {"added_tokens": tokens},
        "added_tokens.json, in another order": {
            "added_tokens": dict(reversed(list(tokens.items())))
        },
        "added_tokens_decoder": {"tokenizer_config": {"added_tokens_decoder": decoder}},
        "additional_special_tokens": {
            "tokenizer_config": {"additional_special_tokens": list(tokens)}
        },
        "special_tokens_map.json": {
            "special_tokens_map": {"additional_special_tokens": list(tokens)}
        },
        "extra_special_tokens": {
            "tokenizer_config": {"extra_special_tokens": {"cat_token": "<cat-toy>"}}
        },
        "another token of the configuration": {"tokenizer_config": {"toy_token": "<cat-toy>"}},
        "padding": {"tokenizer_config": {"pad_token": "<pad>"}, "added_tokens": {"<pad>": size}},
        "both": {
            "added_tokens": {"<cat-toy>": size},
            "tokenizer_config": {"additional_special_tokens": ["<end-of-toy>", "<cat-toy>"]},
        },
    }


PROMPTS = [
    "a <cat-toy> on a foo",
    "a<cat-toy>cat <CAT-TOY>s Foo foo xFoox",
    "<s*><s*>  <pad> <end-of-toy>",
    "naïve  “quoted” &amp; ＡＢＣ\t東京",
    "",
]


@pytest.mark.parametrize("form", forms(0))
def test_tokens_are_read_in_every_form(base: Path, size: int, tmp_path: Path, form: str) -> None:
    folder = write(tmp_path / "tokenizer", base, **forms(size)[form])
    tokenizer, reference = Tokenizer.from_folder(folder), theirs(folder)
    for prompt in PROMPTS:
        if form == "padding" and "“" in prompt:
            continue  # without further tokens text is cleaned as in open_clip
        expected = reference(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        assert tokenizer.rows(prompt)[0] == expected, prompt
        assert counted(tokenizer, prompt) == len(tokenizer.tokens(prompt))


def counted(tokenizer: Tokenizer, prompt: str) -> int:
    """Return the number of tokens that the service counts."""
    published = PublishedTokenizer.model_validate_json(tokenizer.to_json())
    count: int = counter_of(published)(prompt)
    return count


def test_tokens_of_tokenizer_json_are_read(base: Path, size: int, tmp_path: Path) -> None:
    """transformers 5 writes this file, and neither vocab.json nor merges.txt."""
    reference = theirs(base)
    reference.add_tokens([transformers.AddedToken("<cat-toy>", rstrip=True, normalized=False)])
    reference.add_tokens(["Foo"])
    reference.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    tokenizer, again = Tokenizer.from_folder(tmp_path), theirs(tmp_path)
    for prompt in PROMPTS:
        assert tokenizer.tokens(prompt) == again(prompt, add_special_tokens=False).input_ids
    assert tokenizer.tokens("<cat-toy>") == [size]
    shutil.copytree(base, tmp_path / "both")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("added_tokens_decoder", None)
    (tmp_path / "both/tokenizer_config.json").write_text(json.dumps(config))
    shutil.copy(tmp_path / "tokenizer.json", tmp_path / "both")
    both = Tokenizer.from_folder(tmp_path / "both")
    assert [both.tokens(prompt) for prompt in PROMPTS] == [tokenizer.tokens(p) for p in PROMPTS]


flags = st.fixed_dictionaries({flag: st.booleans() for flag in FLAGS})
contents = st.sampled_from(["<toy>", "Toy", "toy cat", "ß", "<toy>s", "*", "x", "東京", "a b", "É"])
added = st.lists(st.tuples(contents, flags), min_size=1, max_size=4, unique_by=lambda t: t[0])
texts = st.lists(
    st.one_of(
        contents,
        contents.map(str.upper),
        st.sampled_from([" ", "  ", "\t", "\n", "cat", "Cats", "!", "’s", "_", "1", "e\u0301"]),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "tokenizer"


@settings(max_examples=60, deadline=None)
@given(tokens=added, prompts=st.lists(texts, min_size=4, max_size=8))
def test_flags_are_those_of_transformers(
    base: Path, size: int, scratch: Path, tokens: list[Any], prompts: list[str]
) -> None:
    """`lstrip`, `rstrip`, `single_word` and `normalized`, in random texts."""
    known = json.loads((base / "vocab.json").read_text())
    new = [(content, given) for content, given in tokens if content not in known]
    decoder = {
        str(size + place): entry(content, **given) for place, (content, given) in enumerate(new)
    }
    shutil.rmtree(scratch, ignore_errors=True)
    folder = write(scratch, base, tokenizer_config={"added_tokens_decoder": decoder})
    tokenizer, reference = Tokenizer.from_folder(folder), theirs(folder)
    if not new:
        return
    for prompt in prompts:
        expected = reference(prompt, add_special_tokens=False).input_ids
        assert tokenizer.tokens(prompt) == expected, ascii(prompt)
        assert counted(tokenizer, prompt) == len(expected)


def test_special_tokens_of_the_vocabulary_stay_text(base: Path, size: int, tmp_path: Path) -> None:
    """Newer files list them among the added tokens; a prompt that spells one is text as before."""
    plain = Tokenizer.from_folder(base)
    ends = {plain.vocabulary.start_id: "<|startoftext|>", plain.vocabulary.end_id: "<|endoftext|>"}
    decoder = {str(number): entry(text, special=True) for number, text in ends.items()}
    config = {"added_tokens_decoder": decoder}
    tokenizer = Tokenizer.from_folder(write(tmp_path / "t", base, tokenizer_config=config))
    for prompt in (*PROMPTS, "a <|endoftext|> cat"):
        assert tokenizer.tokens(prompt) == plain.tokens(prompt)
    config["added_tokens_decoder"] |= {str(size): entry("<toy>")}
    tokenizer = Tokenizer.from_folder(write(tmp_path / "u", base, tokenizer_config=config))
    assert not ends.keys() & set(tokenizer.tokens("<|endoftext|> <toy>"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"added_tokens": {"<toy>": 3}}, "'<toy>' has the id 3, but would be"),
        ({"added_tokens": {"<toy>": 99_999}}, "'<toy>' has the id 99999, but would be"),
        ({"added_tokens": {"<toy>": "7"}}, "'7' is no id"),
        ({"added_tokens": {"<toy>": -1}}, "-1 is no id"),
        ({"added_tokens": {"": 7}}, "is no token"),
        ({"tokenizer_config": {"added_tokens_decoder": ["<toy>"]}}, "is no JSON object"),
        ({"tokenizer_config": {"added_tokens_decoder": {"x": "<toy>"}}}, "'x' is no id"),
        ({"tokenizer_config": {"added_tokens_decoder": {"7": 7}}}, "is no token"),
        ({"tokenizer": {"added_tokens": {"<toy>": 3}}}, "no vocab and merges"),
        ({"tokenizer": {"model": {"merges": [], "vocab": {"a": 0}}}}, "different vocabularies"),
    ],
)
def test_contradictory_files_are_refused_by_name(
    base: Path, tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.from_folder(write(tmp_path / "tokenizer", base, **files))


# -- with a text encoder --------------------------------------------------------------------------

WEIGHTS = "text_encoder/model.safetensors"
EMBEDDING = "text_model.embeddings.token_embedding.weight"


def with_rows(folder: Path, more: int) -> None:
    """Give the text encoder more rows than its vocabulary has tokens."""
    state = load_file(folder / WEIGHTS)
    torch.manual_seed(1)
    rows = state[EMBEDDING]
    state[EMBEDDING] = torch.cat([rows, torch.randn(more, rows.shape[1])])
    save_file(state, folder / WEIGHTS)
    path = folder / "text_encoder/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + more}))


def test_tokens_beyond_the_rows_are_refused_by_name(tmp_path: Path, size: int) -> None:
    folder = write_tiny_sd(tmp_path / "model")
    tokens = {"<toy>": size, "<cat>": size + 1}
    (folder / "tokenizer/added_tokens.json").write_text(json.dumps(tokens))
    report = inspect_checkpoint(str(folder))
    assert not report.valid
    assert [problem for problem in report.problems if "'<toy>' has the id" in problem]
    with_rows(folder, 1)
    with pytest.raises(CheckpointError, match=f"'<cat>' has the id {size + 1}.* {size + 1} rows"):
        load_model(str(folder), torch.device("cpu"))
    with_rows(folder, 1)
    assert inspect_checkpoint(str(folder)).valid


def conditioner_of(folder: Path, embeddings: Path | None = None) -> ClipConditioner:
    model = load_model(str(folder), torch.device("cpu"), embeddings=embeddings)
    assert isinstance(model.conditioner, ClipConditioner)
    return model.conditioner


def test_added_token_is_encoded_as_by_transformers(tmp_path: Path, size: int) -> None:
    folder = write_tiny_sd(tmp_path / "model")
    with_rows(folder, 1)
    (folder / "tokenizer/added_tokens.json").write_text(json.dumps({"<toy>": size}))
    reference = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    ids = theirs(folder / "tokenizer")(
        "a <toy> cat", padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        expected = reference(ids).last_hidden_state[0]
    context = conditioner_of(folder).encode("a <toy> cat").context
    assert context is not None
    assert torch.allclose(context, expected, atol=1e-4)


def test_embeddings_come_after_rows_without_a_token(tmp_path: Path, size: int) -> None:
    """Encoders are resized to a multiple of 64: textual inversion must not take such a row."""
    plain, padded = (write_tiny_sd(tmp_path / name) for name in ("plain", "padded"))
    with_rows(padded, 5)
    folder = tmp_path / "embeddings"
    folder.mkdir()
    width = load_file(plain / WEIGHTS)[EMBEDDING].shape[1]
    save_file({"emb_params": torch.randn(2, width)}, folder / "style.safetensors")
    one, other = (conditioner_of(path, folder) for path in (plain, padded))
    assert other.tokenizer.tokens("style") == [size + 5, size + 6]
    first, second = (each.encode("a cat in style").context for each in (one, other))
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)
    assert counted(one.tokenizer, "a cat in style") == counted(other.tokenizer, "a cat in style")


def test_embeddings_are_matched_next_to_added_tokens(tmp_path: Path, size: int) -> None:
    folder = write_tiny_sd(tmp_path / "model")
    with_rows(folder, 1)
    (folder / "tokenizer/added_tokens.json").write_text(json.dumps({"<Toy>": size}))
    embeddings = tmp_path / "embeddings"
    embeddings.mkdir()
    width = load_file(folder / WEIGHTS)[EMBEDDING].shape[1]
    save_file({"emb_params": torch.randn(2, width)}, embeddings / "MyStyle.safetensors")
    save_file({"emb_params": torch.randn(1, width)}, embeddings / "<toy>.safetensors")
    conditioner = conditioner_of(folder, embeddings)
    assert conditioner.embedding_names == ("MyStyle",)
    expected = [size, size + 1, size + 2]
    assert conditioner.tokenizer.tokens("<TOY> mystyle") == expected
    assert conditioner.tokenizer.tokens("<toy> MyStyle") == expected


# -- other vocabularies ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BertTokenizer", "T5Tokenizer"])
def test_other_vocabularies_have_added_tokens_too(tmp_path: Path, kind: str) -> None:
    if kind == "T5Tokenizer":
        write_sentence_pieces(tmp_path)
    else:
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"<>acotyz", "##a", "##t", "cat"]
        (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    size = Tokenizer.from_folder(tmp_path).vocabulary.backend.get_vocab_size()
    tokens = {"<toy>": size, "<zoo>": size + 1}
    (tmp_path / "added_tokens.json").write_text(json.dumps(tokens))
    tokenizer = Tokenizer.from_folder(tmp_path)
    reference = getattr(transformers, kind).from_pretrained(tmp_path)
    for prompt in ("a <toy> cat", "a<toy>cat<zoo>", "<zoo> <toy>"):
        expected = reference(prompt, add_special_tokens=False).input_ids
        assert tokenizer.tokens(prompt) == expected
        assert counted(tokenizer, prompt) == len(expected)
    with pytest.raises(CheckpointError, match="'<toy>' has the id"):
        tokenizer.check_rows(size)
    tokenizer.check_rows(size + 2)
