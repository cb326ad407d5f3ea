"""Names of samplers and schedules, as AUTOMATIC1111 1.10 has them."""

from __future__ import annotations

import pytest

from models.samplers import SAMPLERS, SCHEDULES
from protocol.recipes import a1111_names
from protocol.recipes.a1111_names import (
    SAMPLER_ALIASES,
    SCHEDULERS,
    our_sampler,
    our_schedule,
    sampler_label,
    schedule_label,
)

# modules/sd_schedulers.py, without those that we have not.
LABELS = {"Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform",
          "Align Your Steps", "Simple", "Normal", "DDIM", "Beta"}  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_found_by_its_label(sampler: str) -> None:
    assert our_sampler(sampler_label(sampler))[0] == sampler
    assert our_sampler(sampler_label(sampler).upper())[0] == sampler


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_has_a_label_of_automatic1111(schedule: str) -> None:
    assert {schedule_label(sampler, schedule) for sampler in SAMPLERS} <= LABELS


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda one: one.name)
def test_its_schedules_are_found_by_name_and_label(scheduler: a1111_names.Scheduler) -> None:
    assert our_schedule("euler", scheduler.label) == scheduler.schedule
    assert our_schedule("euler", scheduler.name) == scheduler.schedule
    assert schedule_label("euler", scheduler.schedule) == scheduler.label


@pytest.mark.parametrize(
    ("label", "schedule", "ours"),
    [
        ("DPM++ 2M Karras", "Automatic", ("dpmpp_2m", "karras")),
        ("DPM++ 2M SDE Exponential", "Automatic", ("dpmpp_2m_sde", "exponential")),
        ("Euler a", "Automatic", ("euler_ancestral", "linspace")),
        ("DPM++ 2M", "Automatic", ("dpmpp_2m", "karras")),
        ("DDIM", "Automatic", ("ddim", "leading")),
        ("k_euler_a", "sgm_uniform", ("euler_ancestral", "sgm_uniform")),
        ("Euler", "SGMUniform", ("euler", "sgm_uniform")),
        ("Euler", "KL Optimal", ("euler", None)),
        ("Restart", "Automatic", (None, None)),
        ("", "", (None, None)),
    ],
)
def test_names_of_its_versions(
    label: str, schedule: str, ours: tuple[str | None, str | None]
) -> None:
    assert our_sampler(label, schedule) == ours


def test_tables_name_only_our_samplers_and_schedules() -> None:
    assert set(SAMPLER_ALIASES) <= set(SAMPLERS)
    assert {one.schedule for one in SCHEDULERS} <= set(SCHEDULES)
