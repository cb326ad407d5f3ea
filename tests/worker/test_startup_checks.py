"""Settings that this machine cannot satisfy are told before a model is loaded."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.startup import InvalidSettings, one_line
from worker.settings import WorkerSettings
from worker.startup_checks import checked_device


def settings(tmp_path: Path, **changes: Any) -> WorkerSettings:
    usual = {"device": "cpu", "object_store_url": (tmp_path / "images").as_uri()}
    return WorkerSettings(**(usual | changes))


def test_usual_settings_are_accepted(tmp_path: Path) -> None:
    assert str(checked_device(settings(tmp_path))) == "cpu"
    for model in ("owner/name", "bundled", str(tmp_path)):
        checked_device(settings(tmp_path, model=model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda:99"}, 'DARKROOM_DEVICE is "cuda:99", but must be a device of this'),
        (
            {"worker_precision": "fp16"},
            "DARKROOM_WORKER_PRECISION: precision is 'fp16', but",
        ),
        ({"worker_attention": "flash3"}, "DARKROOM_WORKER_ATTENTION is .*one of auto, sdpa"),
        ({"model": "/nowhere"}, 'DARKROOM_MODEL is "/nowhere", but must be a folder'),
        ({"model": "unknown"}, 'DARKROOM_MODEL is "unknown", but must be a folder'),
        ({"catalogue": "/nowhere"}, "DARKROOM_CATALOGUE: /nowhere cannot be read: No such file"),
        ({"catalogue": "/"}, "DARKROOM_CATALOGUE: / cannot be read: Is a directory"),
        ({"models_home": __file__}, "DARKROOM_MODELS_HOME is .*a folder that can be read"),
        ({"worker_cache": __file__}, "DARKROOM_WORKER_CACHE is .*in which files can be created"),
        ({"object_store_url": "memory:///"}, "OBJECT_STORE_URL is"),
        ({"worker_metrics_host": "192.0.2.1"}, "DARKROOM_WORKER_METRICS_HOST must be an address"),
    ],
)
def test_setting_that_this_machine_cannot_satisfy_is_told(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSettings, match=message) as found:
        checked_device(settings(tmp_path, **changes))
    assert str(found.value) == one_line(str(found.value))


def test_program_ends_with_one_line_and_status_2() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "worker"],
        env={**os.environ, "DARKROOM_WORKER_LEASE_S": "nan"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        'worker: DARKROOM_WORKER_LEASE_S is "nan", but must be a finite number\n'
    )
