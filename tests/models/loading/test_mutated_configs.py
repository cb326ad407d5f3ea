"""Configurations with random changes: each is loaded, or refused by an error of ours.

The small ones always run. Those of `../shared` are of published models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.checkpoints.checkpoint import build_on_meta
from models.checkpoints.errors import CheckpointError
from models.loading.inspection import _BUILD, inspect_checkpoint
from models.loading.scheduler import read_noise_schedule
from models.text.tokenizer import Tokenizer
from tests.models.published import small_models
from tests.models.text.test_vocabularies import write_sentence_pieces
from tests.support.shared_files import SHARED, shared_file
from tests.support.tiny_models import write_tiny_asymmetric, write_tiny_sd, write_tiny_sdxl

RUNS = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(RUNS, max_examples=600)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# -- configurations -------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70),
    st.sampled_from([-(10**9), 10**6, 10**12, 10**30]),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["conv", "gelu", "UpBlock2D", "text_time", "\ud800", "\0", "x" * 300]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=5,
)
keys = st.one_of(
    st.text(max_size=4), st.sampled_from(["decay", "gradient_checkpointing", "unet", "_notes"])
)


@st.composite
def changed(draw: st.DrawFn, config: Any) -> Any:
    """Draw a change of one entry, at any depth: another value, none at all, or one more entry."""
    if not isinstance(config, dict) or not config or draw(st.integers(0, 19)) == 0:
        return draw(values)
    key = draw(st.sampled_from(sorted(config)))
    match draw(st.sampled_from(["drop", "add", "set", "inside"])):
        case "drop":
            return {name: value for name, value in config.items() if name != key}
        case "add":
            return config | {draw(keys): draw(values)}
        case "inside" if isinstance(config[key], dict):
            return config | {key: draw(changed(config[key]))}
        case "inside" if isinstance(config[key], list) and config[key]:
            index = draw(st.integers(0, len(config[key]) - 1))
            inner = [*config[key]]
            inner[index] = draw(values)
            return config | {key: draw(st.sampled_from([inner, inner[:index], inner * 2]))}
    return config | {key: draw(values)}


def is_loaded_or_refused(folder: Path) -> None:
    try:
        report = inspect_checkpoint(str(folder))
    except CheckpointError as error:
        assert str(error)
    else:
        assert report.lines()[-1] == "valid" or report.all_problems


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small models of several families, their tokenizers as old and as new packages write them."""
    root: Path = tmp_path_factory.mktemp("mutated")
    folders = [
        write_tiny_sd(root / "sd"),
        write_tiny_sdxl(root / "sdxl"),
        small_models.write_text_to_image(root / "text"),
        small_models.write_unconditional(root / "unconditional"),
        write_tiny_sd(root / "json"),
        write_tiny_asymmetric(write_tiny_sd(root / "asymmetric")),
    ]
    tokenizer = root / "json/tokenizer"
    vocab = json.loads((tokenizer / "vocab.json").read_text())
    merges = (tokenizer / "merges.txt").read_text().splitlines()[1:]
    model = {"type": "BPE", "vocab": vocab, "merges": [pair.split(" ") for pair in merges]}
    (tokenizer / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": []}))
    for name in ("vocab.json", "merges.txt"):
        (tokenizer / name).unlink()
    return folders


def small_files(folders: list[Path]) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.rglob("*.json"))]


def check_folder(data: st.DataObject, folders: list[Path]) -> None:
    file = data.draw(st.sampled_from(small_files(folders)), label="file")
    before = file.read_text("utf-8")
    try:
        file.write_text(json.dumps(data.draw(changed(json.loads(before)), label="content")))
        [folder] = [folder for folder in folders if folder in file.parents]
        is_loaded_or_refused(folder)
    finally:
        file.write_text(before, "utf-8")


# File, entry, value, and words of the refusal; none for one that loads as before. Found by people
# or by the tests below.
CORPUS: list[tuple[str, str, Any, str]] = [
    ("model_index.json", "text_encoder_2", None, ""),
    ("model_index.json", "safety_checker", None, ""),
    ("model_index.json", "safety_checker", 7, ""),
    ("model_index.json", "text_encoder", None, "names neither a text_encoder"),
    ("model_index.json", "text_encoder", "CLIPTextModel", "names neither a text_encoder"),
    ("model_index.json", "scheduler", None, ""),
    ("model_index.json", "_class_name", ["StableDiffusionPipeline"], "is not supported"),
    ("unet/config.json", "sample_size", [8, 8], ""),
    ("unet/config.json", "sample_size", None, ""),
    ("unet/config.json", "sample_size", [8, 9], "sample_size=[8, 9]: different values"),
    ("unet/config.json", "attention_head_dim", [4, 4], ""),
    ("unet/config.json", "attention_head_dim", [3, 3], "32 channels for 3 heads"),
    ("unet/config.json", "attention_head_dim", None, "attention_head_dim=None"),
    ("unet/config.json", "block_out_channels", None, "block_out_channels=None"),
    ("unet/config.json", "norm_num_groups", 7, "norm_num_groups=7 for 32 channels"),
    ("unet/config.json", "layers_per_block", [1, 1], ""),
    ("unet/config.json", "decay", 0.9999, ""),
    ("unet/config.json", "gradient_checkpointing", True, ""),
    ("vae/config.json", "sample_size", [32, 32], ""),
    ("vae/config.json", "force_upcast", None, ""),
    ("vae/config.json", "scaling_factor", 0, "scaling_factor=0: must be above 0"),
    ("vae/config.json", "use_quant_conv", False, "unexpected: quant_conv.weight"),
    ("text_encoder/config.json", "architectures", None, ""),
    ("text_encoder/config.json", "architectures", 5, ""),
    ("text_encoder/config.json", "num_attention_heads", 5, "for num_attention_heads=5"),
    ("text_encoder/config.json", "num_hidden_layers", 10**9, "must be 1 to 64"),
    ("tokenizer/tokenizer_config.json", "model_max_length", 1e30, ""),
    ("tokenizer/tokenizer_config.json", "model_max_length", "long", "model_max_length is 'long'"),
    ("tokenizer/tokenizer_config.json", "additional_special_tokens", 5, "are 5, not a list"),
    ("tokenizer/tokenizer_config.json", "pad_token", {"lstrip": True}, "lacks the tokens ['']"),
    ("tokenizer/tokenizer_config.json", "pad_token", "\ud800", "no valid vocabulary"),
    ("tokenizer/tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast", ""),
    ("scheduler/scheduler_config.json", "num_train_timesteps", 10**12, "num_train_timesteps is"),
    ("scheduler/scheduler_config.json", "beta_start", -1.0, "beta_start is -1.0"),
    ("scheduler/scheduler_config.json", "beta_start", 10**400, "beta_start is 1000"),
    ("scheduler/scheduler_config.json", "trained_betas", [None], "trained_betas is not a list"),
]


@pytest.mark.parametrize(
    ("name", "key", "value", "refusal"), CORPUS, ids=[f"{n}-{k}" for n, k, *_ in CORPUS]
)
def test_corpus(folders: list[Path], name: str, key: str, value: Any, refusal: str) -> None:
    file = folders[0] / name
    before = file.read_text("utf-8")
    try:
        file.write_text(json.dumps(json.loads(before) | {key: value}))
        report = inspect_checkpoint(str(folders[0]))
    finally:
        file.write_text(before, "utf-8")
    assert report.valid == (not refusal), report.all_problems
    assert refusal in " ".join(report.all_problems)


@RUNS
@given(data=st.data())
def test_changed_folder(folders: list[Path], data: st.DataObject) -> None:
    check_folder(data, folders)


@pytest.mark.long
@MANY
@given(data=st.data())
def test_changed_folder_many_times(folders: list[Path], data: st.DataObject) -> None:
    check_folder(data, folders)


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A tokenizer.json of each kind, as transformers writes it."""
    import transformers

    root: Path = tmp_path_factory.mktemp("vocabularies")
    pieces = write_sentence_pieces(root / "pieces")
    words = small_models.write_text_to_image(root / "text") / "tokenizer"
    pairs = write_tiny_sd(root / "sd") / "tokenizer"
    for source, kind in ((pieces, "T5"), (words, "Bert"), (pairs, "CLIP")):
        tokenizer = getattr(transformers, f"{kind}Tokenizer").from_pretrained(source)
        tokenizer.save_pretrained(root / kind)
    return [root / kind for kind in ("T5", "Bert", "CLIP")]


@RUNS
@given(data=st.data())
def test_changed_tokenizer(vocabularies: list[Path], data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(small_files(vocabularies)), label="file")
    before = file.read_text("utf-8")
    try:
        file.write_text(json.dumps(data.draw(changed(json.loads(before)))))
        tokenizer = Tokenizer.from_folder(file.parent)
        assert len(tokenizer.rows("a red cat")[0]) == tokenizer.length
    except CheckpointError as error:
        assert str(error)
    finally:
        file.write_text(before, "utf-8")


def published_configs() -> Iterator[Path]:
    for name in ("scheduler/scheduler_config.json", *(f"{part}/config.json" for part in _BUILD)):
        yield from sorted((SHARED / "facts/checkpoints/configs").glob(f"*/{name}"))


@settings(RUNS, max_examples=15)
@given(data=st.data())
def test_changed_published_configuration(tmp_path: Path, data: st.DataObject) -> None:
    shared_file("facts/checkpoints/configs")
    file = data.draw(st.sampled_from(list(published_configs())), label="file")
    target = tmp_path / file.parent.name / file.name
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(data.draw(changed(json.loads(file.read_text())))))
    index = file.parents[1] / "model_index.json"  # not every repository has one
    (tmp_path / index.name).write_text(index.read_text() if index.exists() else "{}")
    try:
        if file.parent.name == "scheduler":
            read_noise_schedule(tmp_path)
        else:
            build_on_meta(target, _BUILD[file.parent.name])
    except CheckpointError as error:
        assert str(error)
