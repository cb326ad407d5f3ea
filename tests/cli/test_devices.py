"""Tests of device lists and of the environment that hides other devices from a worker."""

import argparse
import os
import subprocess
import sys

import pytest

from darkroom.processes.devices import VISIBLE, all_devices, device_list, environments


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("all", ["all"]),
        ("0,1", ["cuda:0", "cuda:1"]),
        ("cuda:3", ["cuda:3"]),
        ("cpu,cpu", ["cpu", "cpu"]),
        ("0,cpu", ["cuda:0", "cpu"]),
    ],
)
def test_device_lists_are_parsed(text: str, devices: list[str]) -> None:
    assert device_list(text) == devices


@pytest.mark.parametrize("text", ["", "gpu", "0,", "-1", "0 1", "all,cpu"])
def test_invalid_device_lists_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="neither cpu nor"):
        device_list(text)


def test_worker_sees_only_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert environments(["cuda:0", "cuda:2"]) == [
        {"DARKROOM_DEVICE": "cuda", VISIBLE: "0"},
        {"DARKROOM_DEVICE": "cuda", VISIBLE: "2"},
    ]


def test_gpu_numbers_are_relative_to_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "5,GPU-77")
    variables = environments(["cuda:0", "cuda:1", "cuda:2"])
    assert [each[VISIBLE] for each in variables] == ["5", "GPU-77", "-1"]  # -1: no such GPU


def test_cpu_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert [each["OMP_NUM_THREADS"] for each in environments(["cpu", "cpu"])] == ["4", "4"]
    assert environments(["cpu"]) == [{"DARKROOM_DEVICE": "cpu"}]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environments(["cpu", "cpu"]) == 2 * [{"DARKROOM_DEVICE": "cpu"}]


def test_devices_of_this_machine_are_listed() -> None:
    devices = all_devices()
    assert devices
    assert all(device == "mps" or device_list(device) == [device] for device in devices)


def test_invalid_device_list_ends_with_status_2() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "darkroom", "worker", "--devices", "gpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "'gpu' is neither cpu nor the number of a GPU" in ran.stderr
