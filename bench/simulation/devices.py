"""Step times of devices: measured here, or derived from published figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.simulation.requests import Mix, RequestKind
from worker.engine.step_profile import Group, Measurement, StepProfile


@dataclass(frozen=True)
class Device:
    """The device and model of a worker.

    decode_s: seconds to decode an image of the measured size. side: pixels of a side of that size.
    factor: downsampling factor of the autoencoder.
    """

    name: str
    source: str
    steps: Measurement
    decode_s: float
    side: int
    factor: int
    default_steps: int
    slots: int = 8

    def profile(self) -> StepProfile:
        """Return the step profile of a worker with these slots."""
        return StepProfile(self.steps, 2 * self.slots)

    def kind(self, scale: float = 1.0, steps: int = 0, rows: int = 2) -> RequestKind:
        """Return the kind of an image whose sides are `scale` times the measured ones."""
        group = (4, *(round(scale * edge) for edge in self.steps.group[-2:]))
        pixels = round(scale * self.side)
        steps = steps or self.default_steps
        guided = "" if rows == 2 else ", unguided"
        return RequestKind(group, steps, rows, f"{pixels}×{pixels}, {steps} steps{guided}")

    def decode_seconds(self, group: Group) -> float:
        """Return the seconds to decode an image, proportional to its pixels."""
        return self.decode_s * _cells(group) / _cells(self.steps.group)

    def alone_s(self, kind: RequestKind) -> float:
        """Return the seconds of an image that is generated alone."""
        step_s = self.profile().step_seconds(kind.group, kind.rows)
        return kind.steps * step_s + self.decode_seconds(kind.group)

    def batch_s(self, kind: RequestKind) -> float:
        """Return the seconds of a batch of one kind that fills all slots."""
        step_s = self.profile().step_seconds(kind.group, kind.rows * self.slots)
        return kind.steps * step_s + self.slots * self.decode_seconds(kind.group)

    def capacity_per_s(self, mix: Sequence[RequestKind]) -> float:
        """Return the requests a second with a full batch in every step, for the kinds of `mix`."""
        profile = self.profile()
        device_s = 0.0
        for kind in mix:
            cap = profile.cap(kind.group)
            row_s = profile.step_seconds(kind.group, cap) / cap
            device_s += kind.steps * kind.rows * row_s + self.decode_seconds(kind.group)
        return len(mix) / device_s

    def mixed(self) -> Mix:
        """Return a mix of few and many steps, small and large images, with and without guidance."""
        return [
            self.kind(steps=max(4, self.default_steps // 2), rows=1),
            self.kind(),
            self.kind(steps=2 * self.default_steps),
            self.kind(scale=1.5),
        ]


def measured(path: Path) -> Device:
    """Read a device that `python -m bench step_times` has measured."""
    kept: Mapping[str, object] = json.loads(path.read_text())
    seconds = kept["seconds"]
    assert isinstance(seconds, dict)
    return Device(
        name=str(kept["model"]) + " on " + str(kept["cpu"] or kept["device"]),
        source=f"measured: {path.name}, {kept['executor']}",
        steps=Measurement(
            tuple(kept["group"]),  # type: ignore[arg-type]  # a list of three numbers
            {int(rows): float(s) for rows, s in seconds.items()},
        ),
        decode_s=float(str(kept["decode_s"])),
        side=int(str(kept["side"])),
        factor=int(str(kept["factor"])),
        default_steps=int(str(kept["steps"])),
    )


def sdxl_h200() -> Device:
    """Return SDXL at 1024² with 20 guided Euler steps in FP8 on an H200: derived, not measured.

    MLPerf Inference v5.1, Offline, one H200 (Quanta D74U-7U): 2.399 images a second at 32 images a
    batch. By operations, decoding is 10.47 of an image's 281.1 TFLOP, so 15.5 ms, and a row of the
    UNet at that size takes (1/2.399 s - 15.5 ms) / 40 = 10.03 ms. The loss of smaller batches is
    taken from diffusers' published rates for SDXL on an A100 (9.9, 2.74 and 0.72 iterations a
    second for 1, 4 and 16 images): 16 % for one image, 5 % for four.
    """
    image_s = 1 / 2.399
    decode_s = image_s * 10.47 / 281.1
    row_s = (image_s - decode_s) / 40
    per_image_16 = 1 / (0.72 * 16)
    lost = {2: (1 / 9.9) / per_image_16, 8: (1 / (2.74 * 4)) / per_image_16, 32: 1.0, 64: 1.0}
    return Device(
        name="SDXL on an H200, FP8",
        source="derived from MLPerf Inference v5.1 and diffusers' published rates",
        steps=Measurement((4, 128, 128), {rows: rows * row_s * x for rows, x in lost.items()}),
        decode_s=decode_s,
        side=1024,
        factor=8,
        default_steps=20,
    )


def _cells(group: Group) -> int:
    return group[-2] * group[-1]
