"""Tests of the benchmarks: smoke runs with their JSON result, and parts of their code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from queue import SimpleQueue
from typing import Any

import pytest

from bench.__main__ import MODULES
from bench.common.drive import Outcome, txt2img_job
from bench.common.workloads import ARCHITECTURES, BUNDLED_EMOJI, TINY, folder
from bench.engine.flops import decode_flops, encode_flops, text_flops, unet_flops
from bench.engine.tiled_memory import Setting, measure
from bench.serving import startup
from bench.serving.policies import RequestLevel
from bench.serving.soak import Sample, trends
from tests.support.local_stack import QUICK
from tests.worker.fake_engine import FakeEngine
from worker.interfaces import AdmittedJob

pytestmark = pytest.mark.early

GIGA = 1e9


def job(number: int) -> AdmittedJob:
    """Return job `number`, whose id repeats that digit."""
    request = txt2img_job(TINY, number).request
    return AdmittedJob(str(number) * 32, request, None, None, listener=Outcome(0.0))


Smoke = Callable[[str, str], dict[str, Any]]  # benchmark, workload
TINY_OR_BUNDLED = [TINY.name, pytest.param(BUNDLED_EMOJI.name, marks=pytest.mark.long)]


def smoke(name: str) -> dict[str, Any]:
    """Run a benchmark with its default settings and return its result."""
    return run_program(name, [], {})


def run_program(
    name: str, options: Sequence[str], environment: dict[str, str], title: str | None = None
) -> dict[str, Any]:
    """Run a benchmark as a program and return its result, whose name is `name` or `title`."""
    command = [sys.executable, "-W", "ignore", "-m", "bench", name, "--smoke", *options]
    done = subprocess.run(
        command, capture_output=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.decode().splitlines()[-1])
    assert result["benchmark"] == (title or name)
    return result


@pytest.fixture
def smoke_of(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Smoke:
    """Return a function that runs a benchmark with a workload and returns its result.

    With the tiny workload it runs in this process, because the imports of a new process take longer
    than the benchmark; with the bundled one it runs as users run it.
    """

    def run(name: str, workload: str) -> dict[str, Any]:
        if workload == BUNDLED_EMOJI.name:
            title = None if name == "extra_networks" else f"{name}-{workload}"
            return run_program(name, [], {}, title)
        for key, value in QUICK.items():
            monkeypatch.setenv(key, value)
        options = ["--workload", workload]
        if name == "extra_networks":
            options = ["--model", str(folder(TINY))]
        if name == "same_bytes":
            options += ["--crowds", "1"]
        if name == "peers":  # without bfloat16, which many CPUs only emulate
            options += ["--only", "diffusers", "--only", "diffusers + OpenVINO"]
        monkeypatch.setattr(sys, "argv", [name, "--smoke", *options])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(MODULES[name]).main()
        result: dict[str, Any] = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert result["benchmark"] == (name if name == "extra_networks" else f"{name}-{workload}")
        return result

    return run


@pytest.mark.parametrize("workload", TINY_OR_BUNDLED)
def test_offline(workload: str, smoke_of: Smoke) -> None:
    alike, mixed = smoke_of("offline", workload)["results"]
    assert alike["images"] == mixed["images"] > 8
    assert alike["tflops"] > 0


@pytest.mark.parametrize("workload", TINY_OR_BUNDLED)
def test_peers_generate_the_same_image(workload: str, smoke_of: Smoke) -> None:
    results = smoke_of("peers", workload)["results"]
    assert {row["system"] for row in results} >= {"darkroom", "diffusers", "diffusers + OpenVINO"}
    # In grey levels of 255; the error of an executor in bfloat16 is smaller than this.
    assert results[0]["difference_from_diffusers"] < 4


@pytest.mark.parametrize("workload", TINY_OR_BUNDLED)
def test_same_bytes(workload: str, smoke_of: Smoke) -> None:
    found = smoke_of("same_bytes", workload)
    assert found["crowds"]
    assert all(crowd["differing"] == 0 for crowd in found["crowds"])
    assert found["images_per_s"] > 0


@pytest.mark.parametrize(
    ("workload", "mib"),
    [(TINY.name, 0), pytest.param(BUNDLED_EMOJI.name, 1, marks=pytest.mark.long)],
)
def test_extra_networks(workload: str, mib: float, smoke_of: Smoke) -> None:
    found = smoke_of("extra_networks", workload)
    assert found["loras"]["every layer"]["mib"] > found["loras"]["attention"]["mib"] > mib
    assert found["safety"]["look_ms"] > 0


@pytest.mark.long
@pytest.mark.parametrize("workload", TINY_OR_BUNDLED)
def test_components(workload: str, smoke_of: Smoke) -> None:
    found = smoke_of("components", workload)["components"]
    assert {row["component"] for row in found} == {
        "denoiser", "decoder", "encoder", "text", "PNG file",
    }  # fmt: skip


@pytest.mark.parametrize(("work", "tiles"), [("img2img", 9), ("upscaler", 2), ("tile", 9)])
def test_tiled_memory(work: str, tiles: int) -> None:
    """In this process: `python -m bench tiled_memory` measures in another."""
    results = SimpleQueue[dict[str, Any]]()
    measure(Setting(tile=128, vae_tile=64), work, 256, results)
    figures = results.get()
    assert figures["tiles"] == tiles
    assert 0 <= figures["mib"] < 2048


def test_overhead() -> None:
    result = smoke("overhead")
    assert all(latency["samples"] > 0 for latency in result["latencies"])
    assert result["flooded"]["accepted_per_s"] > 0
    assert result["flooded"]["others"] == 0


POLICIES = ["serial", "request-level", "request-level, no wait", "step-level"]


def assert_none_refused(points: list[dict[str, Any]], policies: list[str]) -> None:
    assert [point["policy"] for point in points] == policies
    assert all(point["refused"] == 0 for point in points)


@pytest.mark.long
def test_online_with_one_policy() -> None:
    chosen = ["--policies", "request-level"]
    found = run_program("online", ["--workload", TINY.name, *chosen], QUICK, f"online-{TINY.name}")
    assert_none_refused(found["points"], ["request-level"])


@pytest.mark.long
def test_online() -> None:
    title = f"online-{BUNDLED_EMOJI.name}"
    assert_none_refused(run_program("online", [], {}, title)["points"], POLICIES)


@pytest.mark.long
def test_soak() -> None:
    result = run_program("soak", [], QUICK)
    assert result["outcomes"]["refused 422"] == result["jobs"] / 10
    assert sum(result["outcomes"].values()) == result["jobs"]


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [("sd15", 64, (803.3, 2515, 1117)), ("sdxl", 128, (6761, 10470, 4879))],
)
def test_operations_equal_published_ones(name: str, side: int, expected: Sequence[float]) -> None:
    model = ARCHITECTURES[name]
    counted = (
        unet_flops(model.unet, side) / GIGA,
        decode_flops(model.autoencoder, side) / GIGA,
        encode_flops(model.autoencoder, 8 * side) / GIGA,
    )
    assert counted == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["sd15", pytest.param("sdxl", marks=pytest.mark.long)])
def test_guidance_embedding_adds_one_matrix(name: str) -> None:
    unet = ARCHITECTURES[name].unet
    distilled = replace(unet, time_cond_proj_dim=256)
    more = unet_flops(distilled, 16) - unet_flops(unet, 16)
    assert more == 2 * 256 * unet.block_out_channels[0]


def test_operations_of_both_text_encoders() -> None:
    counted = [text_flops(config) / GIGA for config in ARCHITECTURES["sdxl"].text]
    assert counted == pytest.approx([13.3, 97.9], rel=1e-2)


def test_memory_trend_has_the_slope() -> None:
    samples = [Sample(jobs, {"api": 90 + jobs / 1000, "redis": 10}) for jobs in range(0, 5000, 50)]
    found = {trend.program: trend.mb_per_1000_jobs for trend in trends(samples)}
    assert found == pytest.approx({"api": 1.0, "redis": 0.0})


def test_no_job_joins_a_started_batch() -> None:
    engine = FakeEngine()
    policy = RequestLevel(engine, size=2, timeout_s=60.0)
    for number in range(2):
        policy.step()
        assert engine.idle  # a batch does not start before it is full
        policy.admit(job(number))
    assert policy.free_slots == 0
    policy.step()
    assert engine.admitted == ["0" * 32, "1" * 32]
    assert policy.free_slots == 0
    while not policy.idle:
        policy.step()
    assert policy.free_slots == 2


def test_batch_starts_at_the_time_out_of_its_first_job() -> None:
    engine = FakeEngine()
    policy = RequestLevel(engine, size=8, timeout_s=0.0)
    policy.admit(job(0))
    policy.step()
    assert engine.admitted == ["0" * 32]


def test_job_can_be_cancelled_before_its_batch_starts() -> None:
    engine = FakeEngine()
    policy = RequestLevel(engine, size=2, timeout_s=60.0)
    policy.admit(job(0))
    policy.cancel("0" * 32)
    assert policy.idle


def test_startup(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    found = startup.start(startup.HERE)
    assert found.tree == "this tree"
    assert found.cpu_s > 0 < found.ready_s


def test_stack_that_cannot_start_gives_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_DEVICE", "none")
    with pytest.raises(RuntimeError, match="DARKROOM_DEVICE"):
        startup.start(startup.HERE)
