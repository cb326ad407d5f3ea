"""The bundled tokenizer files equal CLIP's published ones."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from models.checkpoints.detect.clip_tokenizer import vocabulary, write_clip_tokenizer
from models.text.tokenizer import Tokenizer
from tests.support.shared_files import shared_file


def test_files_equal_the_published_ones(tmp_path: Path) -> None:
    published = shared_file("data/clip_bpe")
    write_clip_tokenizer(tmp_path)
    assert (tmp_path / "merges.txt").read_bytes() == (published / "merges.txt").read_bytes()
    assert vocabulary() == json.loads((published / "vocab.json").read_text("utf-8"))
    assert json.loads((tmp_path / "vocab.json").read_text("utf-8")) == vocabulary()


def test_merges_are_the_first_of_open_clips() -> None:
    found = find_spec("open_clip")
    if found is None or found.origin is None:
        pytest.skip("open_clip_torch is not installed")
    theirs = Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(theirs.read_bytes()).decode("utf-8").splitlines()
    merged = ["".join(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    assert list(vocabulary())[512:-2] == merged


def test_padding_token_is_configurable(tmp_path: Path) -> None:
    write_clip_tokenizer(tmp_path / "one")
    write_clip_tokenizer(tmp_path / "two", pad="!")
    one, two = (
        Tokenizer.from_folder(tmp_path / name).rows("a red cat")[0] for name in ("one", "two")
    )
    assert one[:5] == two[:5] == [49406, 320, 736, 2368, 49407]
    assert set(one[5:]) == {49407}
    assert set(two[5:]) == {0}
