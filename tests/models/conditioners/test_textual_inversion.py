"""Textual inversion embeddings in all their published forms, against diffusers' loader."""

from __future__ import annotations

import logging
import re
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.conditioners.clip import ClipConditioner
from models.conditioners.textual_inversion import with_embeddings
from models.loading.loader import load_model
from models.networks.config import TextEncoderConfig
from models.networks.text_encoder import TextEncoder
from models.pipeline import LatentDiffusion
from protocol.registry.tokenizer import PublishedTokenizer
from service.jobs.tokens import counter_of
from tests.support.tiny_models import CONTEXT

PROMPT = "the red my-cat, a my-cat on the dotty-art!"


def vectors(count: int, seed: int, width: int = CONTEXT) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def with_files(model: LatentDiffusion, folder: Path, **files: dict[str, Tensor]) -> ClipConditioner:
    """Return the model's conditioner with embeddings from `files`, by name with _ for -."""
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name.replace('_', '-')}.safetensors")
    conditioner = with_embeddings(model.conditioner, folder)
    assert isinstance(conditioner, ClipConditioner)
    return conditioner


def theirs(pipeline: Any, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline.from_pretrained(folder)


FORMS = {
    "AUTOMATIC1111": lambda many, one: ({"emb_params": many}, {"emb_params": one}),
    "diffusers": lambda many, one: ({"<cat>": many}, {"<dot>": one[0]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_embeddings_are_read_as_by_diffusers(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, tmp_path: Path, form: str
) -> None:
    cat, dot = vectors(3, 1), vectors(1, 2)
    my_cat, dotty_art = FORMS[form](cat, dot)
    conditioner = with_files(tiny_sd, tmp_path, my_cat=my_cat, dotty_art=dotty_art)
    assert conditioner.embedding_names == ("dotty-art", "my-cat")

    pipe = theirs(diffusers.StableDiffusionPipeline, tiny_sd_folder)
    pipe.load_textual_inversion({"my-cat": cat})
    pipe.load_textual_inversion({"dotty-art": dot[0]})
    expected, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
    context = conditioner.encode(PROMPT).context
    assert context is not None
    torch.testing.assert_close(context, expected[0], rtol=1e-4, atol=1e-5)
    before = tiny_sd.conditioner
    assert isinstance(before, ClipConditioner)
    plain = before.encode(PROMPT).context
    assert plain is not None
    assert not torch.allclose(context, plain, atol=0.01), "the words say nothing"


def test_a_file_of_automatic1111_is_converted_and_read_as_by_diffusers(
    tiny_sd: LatentDiffusion, tiny_sd_folder: Path, tmp_path: Path
) -> None:
    """Its .pt is a pickle: `darkroom models add` converts it to a safetensors file."""
    source = tmp_path / "my-cat.pt"
    words = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors(3, 8)}}
    more = {"name": "my-cat", "step": 100, "sd_checkpoint": None, "sd_checkpoint_name": None}
    torch.save(words | more, source)
    added = install(str(source), ModelStore(tmp_path / "home"))
    assert (added.kind, added.name) == ("embedding", "my-cat")

    conditioner = with_embeddings(tiny_sd.conditioner, tmp_path / "home/embeddings")
    assert isinstance(conditioner, ClipConditioner)
    pipe = theirs(diffusers.StableDiffusionPipeline, tiny_sd_folder)
    pipe.load_textual_inversion(str(source))
    expected, _ = pipe.encode_prompt("the red my-cat", "cpu", 1, False)
    context = conditioner.encode("the red my-cat").context
    assert context is not None
    torch.testing.assert_close(context, expected[0], rtol=1e-4, atol=1e-5)


def test_embeddings_of_sdxl_are_read_as_by_diffusers(
    tiny_sdxl: LatentDiffusion, tiny_sdxl_folder: Path, tmp_path: Path
) -> None:
    small, large = vectors(2, 3), vectors(2, 4)
    conditioner = with_files(tiny_sdxl, tmp_path, my_cat={"clip_l": small, "clip_g": large})

    pipe = theirs(diffusers.StableDiffusionXLPipeline, tiny_sdxl_folder)
    for word, part in ((small, ""), (large, "_2")):
        tokenizer, encoder = (
            getattr(pipe, f"{kind}{part}") for kind in ("tokenizer", "text_encoder")
        )
        pipe.load_textual_inversion({"my-cat": word}, tokenizer=tokenizer, text_encoder=encoder)
    expected, _, pooled, _ = pipe.encode_prompt(PROMPT, None, "cpu", 1, False)
    encoded = conditioner.encode(PROMPT)
    torch.testing.assert_close(encoded.context, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoded.pooled, pooled[0], rtol=1e-4, atol=1e-5)


def test_refiner_uses_the_embedding_of_its_encoder(
    tiny_sdxl: LatentDiffusion, tmp_path: Path
) -> None:
    both = tiny_sdxl.conditioner
    assert isinstance(both, ClipConditioner)
    save_file({"clip_l": vectors(1, 5), "clip_g": vectors(1, 6)}, tmp_path / "my-cat.safetensors")
    whole = with_embeddings(both, tmp_path)
    refiner = with_embeddings(ClipConditioner(both.stages[1:], both.device, sdxl=True), tmp_path)
    assert isinstance(whole, ClipConditioner)
    assert isinstance(refiner, ClipConditioner)
    context, part = whole.encode("my-cat").context, refiner.encode("my-cat").context
    assert context is not None
    assert part is not None
    assert part.equal(context[:, -part.shape[1] :])


def test_the_service_counts_every_vector(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    conditioner = with_files(tiny_sd, tmp_path, my_cat={"emb_params": vectors(7, 1)})
    published = PublishedTokenizer.model_validate_json(conditioner.tokenizer.to_json())
    assert counter_of(published)("the MY-CAT, the my-cat") == 1 + 7 + 1 + 1 + 7


def test_original_model_is_unchanged(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    before = tiny_sd.conditioner
    assert isinstance(before, ClipConditioner)
    after = with_files(tiny_sd, tmp_path, my_cat={"emb_params": vectors(3, 1)})
    parameters = [dict(of.stages[0].encoder.named_parameters()) for of in (before, after)]
    different = [name for name in parameters[0] if parameters[0][name] is not parameters[1][name]]
    assert different == ["text_model.embeddings.token_embedding.weight"]
    sizes = [len(each[different[0]]) for each in parameters]
    assert sizes[1] == sizes[0] + 3
    assert before.embedding_names == ()
    assert before.tokenizer.learned == {}


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"emb_params": torch.zeros(2, CONTEXT + 1)}, r"\(2, 33\), but must be \(N, 32\)"),
        ({"emb_params": torch.zeros(CONTEXT)[None, None]}, r"\(1, 1, 32\), but must be"),
        ({"emb_params": torch.tensor(1.0)}, r"\(\), but must be"),
        ({"emb_params": torch.zeros(76, CONTEXT)}, "76 vectors, not at least 1 and at most 75"),
        ({"emb_params": torch.zeros(0, CONTEXT)}, "0 vectors, not at least 1"),
        ({"emb_params": torch.full((1, CONTEXT), torch.nan)}, "no finite number"),
        ({"emb_params": torch.ones(1, CONTEXT, dtype=torch.int64)}, "no finite number"),
        ({"clip_l": torch.zeros(1, CONTEXT), "clip_g": torch.zeros(1, CONTEXT)}, "is for SDXL"),
        ({"a": torch.zeros(1, CONTEXT), "b": torch.zeros(1, CONTEXT)}, "holds 2 tensors"),
    ],
)
def test_unsuitable_embedding_is_skipped_with_its_reason(
    tiny_sd: LatentDiffusion,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tensors: dict[str, Tensor],
    reason: str,
) -> None:
    with caplog.at_level(logging.WARNING):
        conditioner = with_files(tiny_sd, tmp_path, bad_one=tensors, good_one={"x": vectors(1, 1)})
    assert conditioner.embedding_names == ("good-one",)
    (record,) = caplog.records
    assert record.__dict__["embedding"] == "bad-one"
    assert re.search(reason, record.__dict__["reason"])


def test_embedding_for_one_encoder_does_not_fit_sdxl(
    tiny_sdxl: LatentDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uneven = {"clip_l": vectors(1, 1), "clip_g": vectors(2, 1)}
    words = with_files(
        tiny_sdxl, tmp_path, one={"emb_params": vectors(1, 1)}, uneven=uneven
    ).embedding_names
    assert words == ()
    reasons = [record.__dict__["reason"] for record in caplog.records]
    assert "is for one text encoder, and this model is SDXL" in reasons[0]
    assert "more vectors for one text encoder" in reasons[1]


def test_conflicting_names_are_skipped(
    tiny_sd: LatentDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("th", "My-Cat", "my-cat", "my-dog", "my-dog_1"):
        count = 2 if name == "my-dog" else 1
        save_file({"x": vectors(count, 1)}, tmp_path / f"{name}.safetensors")
    conditioner = with_embeddings(tiny_sd.conditioner, tmp_path)
    assert isinstance(conditioner, ClipConditioner)
    assert conditioner.embedding_names == ("My-Cat", "my-dog")
    assert {r.__dict__["embedding"] for r in caplog.records} == {"th", "my-cat", "my-dog_1"}


@pytest.mark.parametrize("name", ["猫", "Кошка", "café", "ねこ v2", "हिन्दी", "O'Cat", "%+~"])
def test_name_of_any_script_is_a_word(tiny_sd: LatentDiffusion, tmp_path: Path, name: str) -> None:
    apart = unicodedata.normalize("NFD", name)
    save_file({"x": vectors(3, 1)}, tmp_path / f"{apart}.safetensors")
    conditioner = with_embeddings(tiny_sd.conditioner, tmp_path)
    assert isinstance(conditioner, ClipConditioner)
    assert conditioner.embedding_names == (name,)
    [first] = conditioner.tokenizer.learned
    ids = [first, first + 1, first + 2]
    for spelling in (name, apart, name.upper()):
        tokens = conditioner.tokenizer.tokens(f"the {spelling}, red")
        assert [token for token in tokens if token >= first] == ids


def test_names_that_no_prompt_reads_are_skipped(
    tiny_sd: LatentDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("my (cat)", "[cat]", "BREAK it", "good-one"):
        save_file({"x": vectors(1, 1)}, tmp_path / f"{name}.safetensors")
    conditioner = with_embeddings(tiny_sd.conditioner, tmp_path)
    assert isinstance(conditioner, ClipConditioner)
    assert conditioner.embedding_names == ("good-one",)
    assert len(caplog.records) == 3
    assert all("as syntax" in record.__dict__["reason"] for record in caplog.records)


@pytest.mark.parametrize("placeholder", ["*", "<my-hat>", "hat"])
def test_own_placeholder_is_read_beside_its_token(
    tiny_sd: LatentDiffusion, tmp_path: Path, placeholder: str
) -> None:
    """As the published code saves it, copied to safetensors."""
    tensors = {
        f"string_to_param.{placeholder}": vectors(2, 1),
        f"string_to_token.{placeholder}": torch.tensor(265),
    }
    assert with_files(tiny_sd, tmp_path, my_cat=tensors).embedding_names == ("my-cat",)
    tensors["string_to_param.other"] = vectors(2, 2)
    assert with_files(tiny_sd, tmp_path, my_cat=tensors).embedding_names == ()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b'{"emb_params": 1}'])
def test_file_that_is_not_safetensors_is_skipped(
    tiny_sd: LatentDiffusion, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "my-cat.safetensors").write_bytes(content)
    assert with_embeddings(tiny_sd.conditioner, tmp_path) is tiny_sd.conditioner
    assert "no safetensors file" in caplog.records[0].__dict__["reason"]


def test_missing_folder_adds_no_embeddings(tiny_sd: LatentDiffusion, tmp_path: Path) -> None:
    absent = with_embeddings(tiny_sd.conditioner, tmp_path / "absent")
    assert absent is tiny_sd.conditioner


def test_end_of_text_is_found_among_embedding_ids() -> None:
    """With an end token of 2 the largest id counts; ids of embeddings are ignored."""
    torch.manual_seed(0)
    config = TextEncoderConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=6, eos_token_id=2,
    )  # fmt: skip
    encoder = TextEncoder(config)
    encoder.text_model.embeddings.token_embedding = torch.nn.Embedding(22, 8)
    features = encoder(torch.tensor([[18, 21, 4, 19, 19, 19]]))
    assert features.pooled.equal(features.last[:, 3])


def test_model_is_loaded_with_its_embeddings(tiny_sd_folder: Path, tmp_path: Path) -> None:
    save_file({"x": vectors(2, 1)}, tmp_path / "my-cat.safetensors")
    for device in ("cpu", "meta"):  # meta: described before it is loaded
        model = load_model(str(tiny_sd_folder), torch.device(device), embeddings=tmp_path)
        assert isinstance(model.conditioner, ClipConditioner)
        assert len(model.conditioner.tokenizer.tokens("the my-cat")) == 3
