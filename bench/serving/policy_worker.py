"""The real worker with another batching policy.

python -m bench.serving.policy_worker POLICY TIMEOUT_S
"""

from __future__ import annotations

import os
import sys


def main(name: str, timeout_s: str) -> int:
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as `darkroom worker` does, before torch
    from bench.serving.policies import policy
    from protocol.startup import read_settings
    from worker.__main__ import main as work
    from worker.settings import WorkerSettings

    return work(policy(name, read_settings(WorkerSettings).worker_slots, float(timeout_s)))


if __name__ == "__main__":
    from protocol.startup import exit_status

    sys.exit(exit_status("worker", lambda: main(*sys.argv[1:])))
