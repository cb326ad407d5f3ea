"""Which devices workers run on, and the environment in which a worker sees its own alone."""

import argparse
import os
import re
import subprocess
from collections.abc import Mapping

from darkroom.processes.process import this_python

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"
NAMES = re.compile(r"cpu|mps|cuda:\d+")


class NoDevices(RuntimeError):
    """The devices of this machine cannot be told."""


def device_list(text: str) -> list[str]:
    """What `--devices` was given, as `cpu`, `mps` and `cuda:<n>`; `all` stands for itself.

    Raises argparse.ArgumentTypeError.
    """
    if text == "all":
        return [text]
    devices = [f"cuda:{name}" if name.isdecimal() else name for name in text.split(",")]
    for device in devices:
        if not NAMES.fullmatch(device):
            raise argparse.ArgumentTypeError(f"{device!r} is neither cpu nor the number of a GPU")
    return devices


def all_devices() -> list[str]:
    """Every GPU that PyTorch sees, else what it runs on without one.

    Asked in a process that ends: PyTorch would stay loaded in this one, which lives for long.
    Raises NoDevices.
    """
    asked = subprocess.run(
        this_python("worker.devices"), capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise NoDevices(f"PyTorch cannot tell the devices of this machine: {asked.stderr[-500:]}")
    return asked.stdout.split()


def environments(devices: list[str]) -> list[Mapping[str, str]]:
    """For each device what a worker is told, so that it sees this one only: whatever it does
    without naming a device cannot end up on another. Workers on the CPU share its cores."""
    visible = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    on_cpu = devices.count("cpu")
    told: list[Mapping[str, str]] = []
    for device in devices:
        kind, _, number = device.partition(":")
        variables = {"DARKROOM_DEVICE": kind}
        if number:
            known = visible or [str(n) for n in range(int(number) + 1)]
            variables[VISIBLE] = known[int(number)] if int(number) < len(known) else "-1"
        if kind == "cpu" and on_cpu > 1 and THREADS not in os.environ:
            variables[THREADS] = str(max(1, (os.cpu_count() or 1) // on_cpu))
        told.append(variables)
    return told
