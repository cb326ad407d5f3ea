"""Executors: the same function, the same bits in every batch, chosen once."""

from __future__ import annotations

import logging
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.executors import base, compiled, openvino
from models.executors.base import Network, Run
from models.executors.eager import Eager, OneByOne
from models.executors.merged import run_like
from models.loading.loader import BUNDLED, load_model
from models.networks.layers import ResnetBlock
from models.networks.sharing import with_weights
from models.networks.unet import UNet
from models.pipeline import LatentDiffusion
from models.tuning.executor_autotune import LARGEST_ERROR, ExecutorOptions, autotune_executors
from tests.clients.stack import UNET
from tests.support.tiny_models import write_tiny_sd, write_tiny_sdxl

pytestmark = pytest.mark.early

ROWS = (1, 2, 3, 5, 8, 16, 17)
BATCH = 24
KEPT = Path(os.environ["DARKROOM_WORKER_CACHE"])  # converted once for all tests here


@pytest.fixture(scope="module", params=["sd", pytest.param("sdxl", marks=pytest.mark.long)])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    (write_tiny_sd if request.param == "sd" else write_tiny_sdxl)(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(model: Path) -> LatentDiffusion:
    return load_model(str(model), torch.device("cpu"))


@pytest.fixture(scope="module")
def parts(tiny: LatentDiffusion) -> list[Network]:
    side = tiny.unet.config.sample_size
    return [
        base.denoiser(tiny.unet),
        base.decoder(tiny.autoencoder, side),
        base.encoder(tiny.autoencoder, side * tiny.autoencoder.config.factor),
    ]


def eager(network: Network) -> Run:
    run = Eager(network, same_bytes=network.name == "denoiser")
    return run if network.name == "denoiser" else OneByOne(run)


def in_float32(network: Network) -> Run:
    return openvino.OpenVino(network, torch.float32, KEPT)


def in_bfloat16(network: Network) -> Run:
    return openvino.OpenVino(network, torch.bfloat16, KEPT)


@pytest.fixture
def converted(parts: list[Network], tmp_path: Path) -> Path:
    """Return a folder with the converted graphs of `parts` and no choice."""
    for network in parts:
        in_float32(network)
        for file in KEPT.glob(f"{network.name}-{base.fingerprint(network)}-*"):
            shutil.copy(file, tmp_path)
    return tmp_path


def larger(inputs: tuple[Tensor, ...], network: Network) -> tuple[Tensor, ...]:
    """Return the same inputs with larger, not square feature maps and a longer context."""
    grown = []
    for tensor, free in zip(inputs, network.free, strict=True):
        if 2 in free:
            tensor = torch.nn.functional.interpolate(
                tensor, (tensor.shape[-2] * 2, tensor.shape[-1] * 3), mode="bilinear"
            )
        elif 1 in free:
            tensor = tensor.repeat(1, 2, 1)
        grown.append(tensor)
    return tuple(grown)


def test_openvino_computes_the_same_function_at_every_size(parts: list[Network]) -> None:
    for network in parts:
        run, expected = in_float32(network), eager(network)
        for inputs in (network.examples(3), larger(network.examples(2), network)):
            options = expected(*inputs)
            torch.testing.assert_close(
                run(*inputs), options, rtol=0, atol=1e-4 * float(options.std())
            )


@pytest.mark.parametrize("make", [eager, in_float32, in_bfloat16])
def test_row_has_the_same_bits_in_any_batch(
    parts: list[Network], make: Callable[[Network], Run]
) -> None:
    dice = random.Random(3)
    for network in parts:
        batch, run = network.examples(BATCH), make(network)
        alone = run(*(t[7:8] for t in batch))[0]
        for rows in ROWS:
            order = dice.sample([i for i in range(BATCH) if i != 7], rows)
            place = dice.randrange(rows)
            order[place] = 7
            out = run(*(t[order] for t in batch))
            assert torch.equal(out[place], alone), (network.name, rows, place)


def test_row_has_the_same_bits_in_a_large_batch_with_one_thread() -> None:
    """From sixteen rows on PyTorch has another kernel for convolutions of 1 x 1 pixels."""
    torch.manual_seed(6)
    network = base.denoiser(UNet(UNET).eval())
    latents, *others = network.examples(40)
    batch, run = (latents[..., :16, :8], *others), Eager(network, same_bytes=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = run(*(t[7:8] for t in batch))[0]
        for rows in (8, 15, 16, 17, 32, 33, 40):
            assert torch.equal(run(*(t[:rows] for t in batch))[7], alone), rows
    finally:
        torch.set_num_threads(threads)


def test_eager_without_same_bytes_is_the_plain_module(parts: list[Network]) -> None:
    network = parts[0]
    inputs = network.examples(1)
    with torch.inference_mode():
        assert torch.equal(Eager(network, same_bytes=False)(*inputs), network.module(*inputs))


class Small(torch.nn.Module):
    """A network of two layers, because compiling a UNet takes minutes."""

    def __init__(self) -> None:
        super().__init__()
        self.block = ResnetBlock(8, 8, 16, groups=4, eps=1e-5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        out: Tensor = self.block(x, time)
        return out


def small() -> Network:
    torch.manual_seed(0)

    def examples(rows: int) -> tuple[Tensor, ...]:
        return torch.randn(rows, 8, 4, 4), torch.randn(rows, 16)

    return Network("denoiser", Small().eval(), examples, ((0, 2, 3), (0,)))


@pytest.mark.skipif(not compiled.available(), reason="needs a C++ compiler")
@pytest.mark.long  # `tests/models/cuda/test_regions.py` compiles blocks in `make test`
def test_a_compiled_network_computes_the_same_and_leaves_other_sizes_to_eager() -> None:
    network = small()
    exact = eager(network)
    run = compiled.Compiled(network, torch.float32, fallback=exact, rows=(2, 4))
    assert isinstance(run_like(run, network), Eager)
    for rows in (1, 3, 4, 6):
        inputs = network.examples(rows)
        torch.testing.assert_close(run(*inputs), exact(*inputs), rtol=0, atol=1e-5)
    other = larger(network.examples(2), network)
    assert torch.equal(run(*other), exact(*other))


def test_converted_graphs_are_kept_by_their_weights(tmp_path: Path) -> None:
    network = small()
    inputs = network.examples(2)
    first = openvino.OpenVino(network, torch.float32, tmp_path)(*inputs)
    (kept,) = tmp_path.glob("*.xml")
    before = kept.read_bytes()
    again = openvino.OpenVino(network, torch.float32, tmp_path)(*inputs)
    assert torch.equal(first, again)
    assert kept.read_bytes() == before
    other = small()
    other.module.get_parameter("block.conv2.bias").data += 1
    changed = openvino.OpenVino(other, torch.float32, tmp_path)(*inputs)
    assert len(list(tmp_path.glob("*.xml"))) == 2
    torch.testing.assert_close(changed, first + 1, rtol=0, atol=1e-4)


def merged(network: Network, *names: str) -> Network:
    """Return the same network with other values in these parameters."""
    changed = {name: network.module.get_parameter(name) * 1.5 + 0.01 for name in names}
    return replace(network, module=with_weights(network.module, changed))


def test_merged_model_uses_the_executor_and_leaves_the_model_unchanged(
    parts: list[Network], tmp_path: Path
) -> None:
    network = parts[0]
    weights = [name for name, p in network.module.named_parameters() if p.ndim > 1]
    assert {network.module.get_parameter(name).ndim for name in weights} == {2, 4}
    other = merged(network, *weights[::2])
    inputs = network.examples(3)
    options = eager(other)(*inputs)
    for run in (openvino.OpenVino(network, torch.float32, tmp_path), eager(network)):
        before = run(*inputs)
        varied = run_like(run, other)
        assert type(varied) is type(run)
        output = varied(*inputs)
        torch.testing.assert_close(output, options, rtol=0, atol=1e-4 * float(options.std()))
        assert not torch.allclose(output, before, atol=0.01)
        assert torch.equal(run(*inputs), before)
    assert len(list(tmp_path.glob("*.xml"))) == 1  # nothing was converted again


@pytest.mark.parametrize("ending", [pytest.param("unet.conv_out.bias", marks=pytest.mark.long), ""])
def test_merged_model_with_missing_constants_is_converted(
    parts: list[Network], ending: str
) -> None:
    """Biases and weights of norms are folded into other constants."""
    network = parts[0]
    parameters = network.module.named_parameters()
    names = [name for name, p in parameters if p.ndim == 1 and name.endswith(ending)]
    other = merged(network, *names)
    inputs = network.examples(2)
    options = eager(other)(*inputs)
    output = run_like(openvino.OpenVino(network, torch.float32, None), other)(*inputs)
    torch.testing.assert_close(output, options, rtol=0, atol=1e-4 * float(options.std()))


def test_merged_model_is_eager_without_weight_support(parts: list[Network]) -> None:
    network = parts[0]
    other, inputs = merged(network, "unet.conv_in.weight"), network.examples(2)
    run = run_like(lambda *inputs: network.module(*inputs), other)
    assert torch.equal(run(*inputs), eager(other)(*inputs))


def test_graphs_unused_for_months_are_deleted(parts: list[Network], tmp_path: Path) -> None:
    old = [tmp_path / "denoiser-of-another-model.xml", tmp_path / "denoiser-of-another-model.bin"]
    for file in old:
        file.write_text("")
        os.utime(file, (0, 0))
    openvino.OpenVino(parts[1], torch.float32, tmp_path)
    assert not any(file.exists() for file in old)


def test_openvino_telemetry_is_disabled(parts: list[Network]) -> None:
    in_float32(parts[1])
    assert sys.modules["openvino_telemetry"] is None


def test_first_choice_counts_for_all_who_share_the_folder(
    tiny: LatentDiffusion, converted: Path
) -> None:
    options = ExecutorOptions(cache=converted, rows=4)
    first = autotune_executors(tiny, options)
    for file in converted.glob("denoiser-*.choice"):
        file.write_text("eager fp32")
    assert first.name.split(", ")[1:] == autotune_executors(tiny, options).name.split(", ")[1:]
    assert autotune_executors(tiny, options).name.startswith("denoiser eager fp32")


def test_requested_executor_is_used_or_refused(tiny: LatentDiffusion, converted: Path) -> None:
    requested = ExecutorOptions(executor="openvino", precision="fp32", cache=converted)
    assert autotune_executors(tiny, requested).name == (
        "denoiser openvino fp32, decoder openvino fp32, encoder openvino fp32"
    )
    assert "eager" in autotune_executors(tiny, ExecutorOptions(executor="eager")).name


def test_bfloat16_is_refused_by_its_error(
    tiny: LatentDiffusion,
    converted: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("models.tuning.executor_autotune.LARGEST_ERROR", 1e-9)
    with pytest.raises(ValueError, match="openvino bf16"):
        autotune_executors(
            tiny, ExecutorOptions(executor="openvino", precision="bf16", cache=converted)
        )
    assert "not used" in caplog.text


def test_bundled_model_is_exact_enough_in_bfloat16() -> None:
    bundled = load_model(str(BUNDLED), torch.device("cpu"))
    network = base.denoiser(bundled.unet)
    inputs = network.examples(4)
    options = eager(network)(*inputs)
    error = (in_bfloat16(network)(*inputs) - options).square().mean().sqrt()
    assert error < LARGEST_ERROR * options.square().mean().sqrt()
