"""The names that other systems give to samplers and schedules."""

import pytest

from protocol.request.samplers import SAMPLERS
from service.dialects.sampler_names import sampler_fields


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_found_by_all_its_names(name: str) -> None:
    info = SAMPLERS[name]
    for spelling in (name, info.title, info.title.upper(), info.scheduler or name):
        assert sampler_fields(spelling) == {"sampler": name}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("DPM++ 2M Karras", {"sampler": "dpmpp_2m", "schedule": "karras"}),
        ("Euler a", {"sampler": "euler_ancestral"}),
        ("k_euler", {"sampler": "euler"}),
        ("Karras", {"schedule": "karras"}),
        ("SGM Uniform", {"schedule": "sgm_uniform"}),
        ("Restart", {"sampler": "Restart"}),
        ("", {"sampler": ""}),
    ],
)
def test_names(text: str, fields: dict[str, str]) -> None:
    assert sampler_fields(text) == fields
