"""Names, bounds and the cache of compile_table."""

import subprocess
import sys

import pytest

import protocol.request.samplers
from models.samplers import SAMPLERS, SCHEDULES, compile_table
from models.samplers.noise_schedule import NoiseSchedule
from tests.models.samplers.toy import SD15

SCHEDULE = NoiseSchedule.from_config(SD15)


def test_names_are_those_of_the_api() -> None:
    """Recorded requests contain them: a name is permanent. Workers offer them in this order."""
    assert list(protocol.request.samplers.SAMPLERS) == [
        "ddim",
        "plms",
        "euler",
        "euler_ancestral",
        "dpmpp_2m",
        "unipc",
        "heun",
        "dpm2",
        "dpm2_ancestral",
        "lms",
        "dpmpp_2s_ancestral",
        "dpmpp_sde",
        "dpmpp_2m_sde",
        "dpmpp_3m_sde",
        "deis",
        "ddpm",
        "lcm",
        "tcd",
    ]
    assert list(SAMPLERS) == sorted(protocol.request.samplers.SAMPLERS)
    assert list(SCHEDULES) == [
        "leading",
        "linspace",
        "trailing",
        "karras",
        "karras-leading",
        "karras-trailing",
        "exponential",
        "polyexponential",
        "beta",
        "normal",
        "simple",
        "sgm_uniform",
        "ddim",
        "lcm",
        "align-your-steps",
        "align-your-steps-xl",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("magic", "karras", 10, SCHEDULE), "sampler is 'magic', not one of ddim, ddpm, deis"),
        (("ddim", "cosine", 10, SCHEDULE), "schedule is 'cosine', not one of leading, linspace"),
        (("ddim", "karras", 0, SCHEDULE), "steps is 0, not in 1..1000"),
        (("ddim", "karras", 1001, SCHEDULE), "steps is 1001, not in 1..1000"),
        (("ddim", "karras", 10, SCHEDULE, 0.05), "strength 0.05 of 10 steps leaves 0, not 1..10"),
        (("ddim", "karras", 10, SCHEDULE, 1.1), "strength 1.1 of 10 steps leaves 11, not 1..10"),
        (("ddim", "karras", 10, SCHEDULE, None, 1.1), "eta is 1.1, not in 0..1"),
        (("heun", "karras", 10, SCHEDULE, None, 0.5), "eta is 0.5 with heun, but only ddim has it"),
    ],
)
def test_argument_out_of_bounds_is_named(
    arguments: tuple[str, str, int, NoiseSchedule], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compile_table(*arguments)


def test_equal_schedules_share_a_compiled_table() -> None:
    again = NoiseSchedule.from_config(SD15)
    assert again is not SCHEDULE
    assert compile_table("unipc", "karras", 20, SCHEDULE) is compile_table(
        "unipc", "karras", 20, again
    )


def test_compiling_needs_no_torch() -> None:
    program = "import sys, models.samplers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
