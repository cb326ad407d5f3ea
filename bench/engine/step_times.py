"""Step times of this machine, measured as the worker does, for `bench.simulation.simulate`.

python -m bench step_times [--model FOLDER] [--slots 8] [--smoke]
"""

from __future__ import annotations

import time
from statistics import median

import torch

from bench.common.report import arguments, publish, table
from models.denoising.sampling_params import SamplingParams
from models.loading.loader import default_device, load_model
from worker.model_info.model_card import model_card
from worker.model_manager.profiling import measure
from worker.model_manager.warmup import ready_model
from worker.settings import WorkerSettings

TIME_LIMIT_S = 60.0
DECODINGS = 9


def main() -> None:
    parser = arguments("step_times", __doc__)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--slots", type=int, default=8)
    given = parser.parse_args()
    model = load_model(given.model, default_device())
    card = model_card(model, given.model)
    size = (card.default_width, card.default_height)
    model = ready_model(model, size, WorkerSettings())
    measured = measure(model, size, 2 * given.slots, 0.0 if given.smoke else TIME_LIMIT_S)

    [state] = model.start(SamplingParams("", width=size[0], height=size[1], steps=1), [0])
    decodings = []
    for _ in range(DECODINGS):
        started = time.perf_counter()
        model.decode(torch.stack([state.x]))
        decodings.append(time.perf_counter() - started)
    figures = {
        "model": card.name,
        "executor": model.executors.name,
        "side": card.default_width,
        "factor": model.autoencoder.config.factor,
        "steps": card.default_steps,
        "group": list(measured.group),
        "seconds": dict(measured.seconds),
        "decode_s": median(decodings),
    }
    rows = [(n, 1e3 * s, 1e3 * s / n) for n, s in measured.seconds.items()]
    step_table = table(f"{card.name}: a step", ("rows", "ms", "ms a row"), rows)
    publish("step_times", given, str(model.device), [step_table], figures)


if __name__ == "__main__":
    main()
