"""A worker with a fake engine, as a program: `python -m tests.worker.consumer.child_worker
STEP_SECONDS`."""

import os
import sys

from protocol.storage.object_store import ObjectStore
from tests.worker.consumer.harness import make_worker, settings
from tests.worker.fake_engine import FakeEngine
from worker.telemetry.metrics import Metrics


def main() -> None:
    store = ObjectStore.open(os.environ["OBJECT_STORE_URL"])
    engine = FakeEngine(step_s=float(sys.argv[1]))
    worker, output = make_worker(settings(os.environ["REDIS_URL"]), engine, store, Metrics())
    worker.handle_signals()
    worker.work()
    output.close()


if __name__ == "__main__":
    main()
