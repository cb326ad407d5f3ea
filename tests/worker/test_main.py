"""The program: `python -m worker`."""

import os
import subprocess
import sys
from pathlib import Path

from protocol.connection.redis_client import connect
from protocol.registry.presence import Presence, WorkerState


def test_failed_start_is_reported_with_its_reason(redis_url: str, tmp_path: Path) -> None:
    nowhere = tmp_path / "no model here"
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "OBJECT_STORE_URL": tmp_path.as_uri(),
        "DARKROOM_MODEL": str(nowhere),
        "DARKROOM_DEVICE": "cpu",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "worker"], env=environment, stderr=subprocess.PIPE, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f'worker: DARKROOM_MODEL is "{nowhere}", but must be'.encode())
    with connect(redis_url) as redis:
        [report] = Presence(redis).workers()
    assert report.state is WorkerState.SETUP_FAILED
    assert str(nowhere) in report.detail
