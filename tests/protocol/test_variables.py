"""Misspelled names of variables are told, names that only look alike are not."""

import pytest

from protocol.variables import VARIABLES, misspelled


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DARKROOM_MODLE", "DARKROOM_MODEL"),
        ("DARKROM_MODEL", "DARKROOM_MODEL"),
        ("DARKROOM_CATALOG", "DARKROOM_CATALOGUE"),
        ("darkroom_worker_slot", "DARKROOM_WORKER_SLOTS"),
        ("DARKROOM_SLOTS", "DARKROOM_WORKER_SLOTS"),
        ("DARKROOM_REDIS_URL", "REDIS_URL"),
        ("DARKROOM_APIKEY", "DARKROOM_API_KEY"),
    ],
)
def test_misspelled_name_is_told(name: str, meant: str) -> None:
    assert list(misspelled({name: "secret"})) == [f"{name} is not a setting: is {meant} meant?"]


def test_other_names_are_not_told() -> None:
    of_kubernetes = ("DARKROOM_SERVICE_HOST", "DARKROOM_API_PORT_8000_TCP_ADDR")
    known = (*VARIABLES, *map(str.lower, VARIABLES))
    assert list(misspelled(dict.fromkeys((*known, *of_kubernetes, "PATH"), ""))) == []
