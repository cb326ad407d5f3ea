"""Every benchmark runs to its end, and its last line is the JSON it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from bench.__main__ import MODULES
from bench.common.drive import Outcome, alike
from bench.common.workloads import ARCHITECTURES, BUNDLED_EMOJI, TINY, folder
from bench.engine.flops import decode_flops, encode_flops, text_flops, unet_flops
from bench.serving.policies import RequestLevel
from bench.serving.soak import Sample, trends
from tests.worker.fake_engine import FakeEngine
from worker.interfaces import AdmittedJob

pytestmark = pytest.mark.early

GIGA = 1e9


def job(number: int) -> AdmittedJob:
    """Job `number`, whose id is that digit over and over; nobody hears of it."""
    request = alike(TINY, number).request
    return AdmittedJob(str(number) * 32, request, None, None, listener=Outcome(0.0))


# Converting the networks and measuring what runs them best takes longer than all the rest of a
# smoke run, and is no part of a benchmark.
QUICK = {"DARKROOM_WORKER_TUNE_S": "0", "DARKROOM_WORKER_EXECUTOR": "eager"}
Smoke = Callable[[str, str], dict[str, Any]]  # benchmark, workload
TINY_OR_BUNDLED = [TINY.name, pytest.param(BUNDLED_EMOJI.name, marks=pytest.mark.long)]


def smoke(name: str) -> dict[str, Any]:
    """The last line of a smoke run, with the settings that a program has by default."""
    return printed(name, [], {})


def printed(
    name: str, options: Sequence[str], environment: dict[str, str], title: str | None = None
) -> dict[str, Any]:
    """The last line of a smoke run of a program, whose result is called by its name or `title`."""
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
    """The last line of a smoke run with a workload.

    That of the tiny one runs in this process, which has imported by then what would take a process
    longer than the benchmark; that of the bundled one as users run it.
    """

    def run(name: str, workload: str) -> dict[str, Any]:
        if workload == BUNDLED_EMOJI.name:
            return smoke(name)
        for key, value in QUICK.items():
            monkeypatch.setenv(key, value)
        options = ["--workload", workload]
        if name == "extra_networks":
            options = ["--model", str(folder(TINY))]
        if name == "peers":  # not those in bfloat16, which many a CPU only imitates
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
def test_peers_draw_the_same_picture(workload: str, smoke_of: Smoke) -> None:
    results = smoke_of("peers", workload)["results"]
    assert {row["system"] for row in results} >= {"darkroom", "diffusers", "diffusers + OpenVINO"}
    # In grey levels of 255; an executor in bfloat16 is not further off than this.
    assert results[0]["difference_from_diffusers"] < 4


@pytest.mark.parametrize("workload", TINY_OR_BUNDLED)
def test_same_bytes(workload: str, smoke_of: Smoke) -> None:
    found = smoke_of("same_bytes", workload)
    assert [crowd["differing"] for crowd in found["crowds"]] == [0, 0, 0]
    assert found["images_per_s"] > 0


@pytest.mark.parametrize(
    ("workload", "mib"), [("tiny", 0), pytest.param("bundled", 1, marks=pytest.mark.long)]
)
def test_extra_networks(workload: str, mib: float, smoke_of: Smoke) -> None:
    found = smoke_of("extra_networks", workload)
    assert found["loras"]["every layer"]["mib"] > found["loras"]["attention"]["mib"] > mib
    assert found["safety"]["look_ms"] > 0


@pytest.mark.parametrize("workload", TINY_OR_BUNDLED)
def test_components(workload: str, smoke_of: Smoke) -> None:
    found = smoke_of("components", workload)["components"]
    assert {row["component"] for row in found} == {
        "denoiser", "decoder", "encoder", "text", "PNG file",
    }  # fmt: skip


def test_overhead() -> None:
    result = smoke("overhead")
    assert all(latency["samples"] > 0 for latency in result["latencies"])
    assert result["flooded"]["accepted_per_s"] > 0
    assert result["flooded"]["others"] == 0


POLICIES = ["serial", "request-level", "request-level, no wait", "step-level"]


def assert_none_refused(points: list[dict[str, Any]], policies: list[str]) -> None:
    assert [point["policy"] for point in points] == policies
    assert all(point["refused"] == 0 for point in points)


def test_online_with_one_policy() -> None:
    chosen = ["--policies", "request-level"]
    found = printed("online", ["--workload", TINY.name, *chosen], QUICK, f"online-{TINY.name}")
    assert_none_refused(found["points"], ["request-level"])


@pytest.mark.long
def test_online() -> None:
    assert_none_refused(smoke("online")["points"], POLICIES)


def test_soak() -> None:
    result = printed("soak", [], QUICK)
    assert result["outcomes"]["refused 422"] == result["jobs"] / 10
    assert sum(result["outcomes"].values()) == result["jobs"]


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [("sd15", 64, (803.3, 2515, 1117)), ("sdxl", 128, (6761, 10470, 4879))],
)
def test_arithmetic_is_what_is_published(name: str, side: int, expected: Sequence[float]) -> None:
    model = ARCHITECTURES[name]
    counted = (
        unet_flops(model.unet, side) / GIGA,
        decode_flops(model.autoencoder, side) / GIGA,
        encode_flops(model.autoencoder, 8 * side) / GIGA,
    )
    assert counted == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_being_told_its_guidance_is_one_matrix_more(name: str) -> None:
    unet = ARCHITECTURES[name].unet
    told = replace(unet, time_cond_proj_dim=256)
    more = unet_flops(told, 16) - unet_flops(unet, 16)
    assert more == 2 * 256 * unet.block_out_channels[0]


def test_arithmetic_of_both_text_encoders() -> None:
    counted = [text_flops(config) / GIGA for config in ARCHITECTURES["sdxl"].text]
    assert counted == pytest.approx([13.3, 97.9], rel=1e-2)


def test_a_slope_is_found() -> None:
    samples = [Sample(jobs, {"api": 90 + jobs / 1000, "redis": 10}) for jobs in range(0, 5000, 50)]
    found = {trend.program: trend.mb_per_1000_jobs for trend in trends(samples)}
    assert found == pytest.approx({"api": 1.0, "redis": 0.0})


def test_nobody_joins_a_batch_that_has_begun() -> None:
    engine = FakeEngine()
    policy = RequestLevel(engine, size=2, patience_s=60.0)
    for number in range(2):
        policy.step()
        assert engine.idle  # a batch is not begun before it is full
        policy.admit(job(number))
    assert policy.free_slots == 0
    policy.step()
    assert engine.admitted == ["0" * 32, "1" * 32]
    assert policy.free_slots == 0
    while not policy.idle:
        policy.step()
    assert policy.free_slots == 2


def test_a_batch_begins_when_its_first_has_waited_enough() -> None:
    engine = FakeEngine()
    policy = RequestLevel(engine, size=8, patience_s=0.0)
    policy.admit(job(0))
    policy.step()
    assert engine.admitted == ["0" * 32]


def test_a_job_can_be_cancelled_before_its_batch_begins() -> None:
    engine = FakeEngine()
    policy = RequestLevel(engine, size=2, patience_s=60.0)
    policy.admit(job(0))
    policy.cancel("0" * 32)
    assert policy.idle
