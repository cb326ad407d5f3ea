"""Devices of this machine, and the environment that shows each worker only its own device."""

import argparse
import os
import re
import subprocess
from collections.abc import Mapping

from darkroom.processes.process import this_python

VISIBLE = "CUDA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"
NAMES = re.compile(r"cpu|mps|cuda:[0-9]{1,3}")


class NoDevices(RuntimeError):
    """The devices of this machine cannot be listed."""


def device_list(text: str) -> list[str]:
    """Parse `--devices` into names such as `cpu`, `mps` and `cuda:<n>`; `all` stays as it is.

    Raises:
        argparse.ArgumentTypeError: a name is neither of these nor a number.
    """
    if text == "all":
        return [text]
    devices = [f"cuda:{name}" if name.isdecimal() else name for name in text.split(",")]
    for device in devices:
        if not NAMES.fullmatch(device):
            raise argparse.ArgumentTypeError(f"{device!r} is neither cpu nor the number of a GPU")
    return devices


def all_devices() -> list[str]:
    """List every GPU that PyTorch sees, or else the device it runs on without one.

    A child process lists them, because PyTorch would stay loaded in this long-lived process.

    Raises:
        NoDevices: PyTorch cannot be loaded or fails.
    """
    listing = subprocess.run(
        this_python("worker.devices"), capture_output=True, text=True, check=False
    )
    if listing.returncode:
        raise NoDevices(f"PyTorch cannot list the devices of this machine: {listing.stderr[-500:]}")
    return listing.stdout.split()


def environments(devices: list[str]) -> list[Mapping[str, str]]:
    """Return the environment variables of each device's worker.

    Each worker sees only its own device, so that code which names no device cannot use another.
    Workers on the CPU share its cores.
    """
    visible = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    on_cpu = devices.count("cpu")
    result: list[Mapping[str, str]] = []
    for device in devices:
        kind, _, number = device.partition(":")
        variables = {"DARKROOM_DEVICE": kind}
        if number:
            known = visible or [str(n) for n in range(int(number) + 1)]
            variables[VISIBLE] = known[int(number)] if int(number) < len(known) else "-1"
        if kind == "cpu" and on_cpu > 1 and THREADS not in os.environ:
            variables[THREADS] = str(max(1, (os.cpu_count() or 1) // on_cpu))
        result.append(variables)
    return result
