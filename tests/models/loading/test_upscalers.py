"""The installed upscalers: found by name, kept within their bytes, replaced and broken files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from models.checkpoints.checkpoint import CheckpointError
from models.checkpoints.convert.install import install
from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.detect.kinds import Kind
from models.loading.inspection import inspect_checkpoint
from models.loading.upscalers import KEPT, Upscalers
from tests.models.checkpoints import hostile
from tests.models.upscalers.reference import compact, current, rrdb, save_pth
from tests.support.spandrel_oracle import spandrel
from tests.support.tiny_upscalers import write_tiny_compact, write_tiny_rrdb

CPU = torch.device("cpu")


def upscalers(folder: Path) -> Upscalers:
    return Upscalers(folder, CPU, torch.float32)


def test_names_and_scales_of_complete_upscalers(tmp_path: Path) -> None:
    write_tiny_compact(tmp_path / "small", scale=3)
    write_tiny_rrdb(tmp_path / "folded", unshuffle=2)
    write_tiny_compact(tmp_path / "without config")
    (tmp_path / "without config/config.json").unlink()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text('{"_class_name": "RRDBNet", "blocks": "many"}')
    (tmp_path / "broken/model.safetensors").write_bytes(b"no header")
    found = {one.name: one.scale for one in upscalers(tmp_path).installed()}
    assert found == {"folded": 1, "small": 3}
    assert upscalers(tmp_path / "absent").installed() == ()


def test_replaced_upscaler_is_read_again(tmp_path: Path) -> None:
    write_tiny_compact(tmp_path / "one", scale=2)
    found = upscalers(tmp_path)
    first = found.get("one")
    assert found.get("one") is first
    shutil.rmtree(tmp_path / "one")
    with pytest.raises(CheckpointError, match="no upscaler is called 'one'"):
        found.get("one")
    write_tiny_compact(tmp_path / "one", scale=4)
    assert found.get("one").config.scale == 4


def test_names_are_in_one_normal_form(tmp_path: Path) -> None:
    write_tiny_compact(tmp_path / "u\u0308ber", scale=2)  # decomposed, as some systems name files
    write_tiny_compact(tmp_path / "a:b", scale=2)  # no name that a request could give
    found = upscalers(tmp_path)
    assert [one.name for one in found.installed()] == ["\u00fcber"]
    assert found.get("\u00fcber").config.scale == 2


@pytest.mark.parametrize("name", ["../one", "", "other", "one/."])
def test_name_is_no_path(tmp_path: Path, name: str) -> None:
    write_tiny_compact(tmp_path / "one")
    with pytest.raises(CheckpointError, match="no upscaler"):
        upscalers(tmp_path / "one").get(name)


def test_the_largest_are_reserved_and_never_exceeded(tmp_path: Path) -> None:
    for i in range(KEPT + 2):
        write_tiny_compact(tmp_path / f"small {i}")
    large = sum(tensor.nbytes for tensor in rrdb().state_dict().values())
    found = upscalers(tmp_path)
    [size] = {one.nbytes for one in found.installed()}
    assert found.reserve() == KEPT * size
    assert size < large
    folder = write_tiny_rrdb(tmp_path / "later")
    assert "later" in {one.name for one in found.installed()}
    file = save_pth(current(rrdb(width=64).state_dict()), tmp_path / "huge.pth")
    added = install(str(file), ModelStore(tmp_path / "store"))
    shutil.move(added.path, tmp_path / "huge")
    assert "huge" not in {one.name for one in found.installed()}
    with pytest.raises(CheckpointError, match="huge"):
        found.get("huge")
    assert folder.exists()


def test_pth_file_is_added_and_runs(tmp_path: Path) -> None:
    file = save_pth(compact().state_dict(), tmp_path / "realesr-test.pth", "params")
    added = install(str(file), ModelStore(tmp_path / "home"))
    assert (added.kind, added.path) == ("upscaler", tmp_path / "home/upscalers/realesr-test")
    report = inspect_checkpoint(str(added.path))
    assert report.valid
    assert report.weights["fp32"] == 2 * report.weights["fp16"] > 0
    one = upscalers(tmp_path / "home/upscalers").get("realesr-test")
    assert one.enlarge(torch.zeros(5, 6, 3, dtype=torch.uint8).numpy()).shape == (20, 24, 3)


def span() -> torch.nn.Module:
    made: torch.nn.Module = spandrel.architectures.SPAN.SPAN(
        num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2
    )
    return made.eval()


def test_other_architectures_are_added_with_their_kind(tmp_path: Path) -> None:
    network, store = span(), ModelStore(tmp_path / "home")
    file = save_pth(network.state_dict(), tmp_path / "2x-span.pth", "params")
    with pytest.raises(CheckpointError, match="--kind upscaler"):
        install(str(file), store)
    added = install(str(file), store, kind="upscaler")
    report = inspect_checkpoint(str(added.path))
    assert (report.pipeline, report.all_problems) == ("SPAN", ())
    [installed] = upscalers(tmp_path / "home/upscalers").installed()
    assert installed.scale == 2
    one = upscalers(tmp_path / "home/upscalers").get("2x-span")
    image = torch.rand(1, 3, 16, 18, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(image).clamp(0, 1)
    torch.testing.assert_close(one.run(image), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"some.weight": torch.zeros(3)}, "no architecture"),
        ({"body.99999999.weight": torch.zeros(3)}, "number above"),
        ({"body.0.weight": torch.zeros(3), "body.1.weight": torch.zeros(3, 3)}, "cannot load"),
    ],
)
def test_files_that_spandrel_cannot_use_are_refused(
    weights: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    store = ModelStore(tmp_path / "home")
    file = save_pth(weights, tmp_path / "odd.pth")

    def validate(converted: Path) -> None:
        raise CheckpointError("; ".join(inspect_checkpoint(str(converted)).all_problems))

    with pytest.raises(CheckpointError, match=message):
        install(str(file), store, kind="upscaler", validate=validate)
    assert store.names("upscaler") == []


def test_pickle_with_code_is_refused(tmp_path: Path) -> None:
    code = hostile.call("os", "system", hostile.text("true"))
    pickle = hostile.PROTO2 + hostile.dictionary({"params_ema": code}) + hostile.STOP
    (tmp_path / "4x.pth").write_bytes(pickle)
    kinds: tuple[Kind | None, ...] = ("upscaler", None)
    for kind in kinds:
        with pytest.raises(CheckpointError, match=r"os\.system"):
            install(str(tmp_path / "4x.pth"), ModelStore(tmp_path / "home"), kind=kind)
