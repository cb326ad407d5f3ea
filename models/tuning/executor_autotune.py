"""Autotuning on a CPU: the executor of each network is the one that measures fastest.

The choice is made once for a machine and a model, and kept on disk. Workers that share the folder
share the choice, so a job that moves from one to another gives the same image.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from models.executors import base, compiled, openvino
from models.executors.base import Executors, Network, Run
from models.executors.eager import eager_executors
from models.executors.stopwatch import best_seconds
from models.pipeline import LatentDiffusion

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LARGEST_ERROR = 0.03  # of a network in bfloat16: root mean square, as a share of the output's
REPEATS = 5
CLOSE = 1.5  # candidates slower than this factor at few rows are not tried at more
COMPILE_S = 180.0  # the approximate time of compiling, tried only with this time budget or more

Candidates = dict[str, Callable[[], Run]]  # name -> how to make it


@dataclass(frozen=True)
class ExecutorOptions:
    """Options of an operator.

    executor: auto, eager, openvino or compile. precision: auto, fp32 or bf16. rows: of a large
    batch, measured in addition to those of a single guided image. budget_s: the time for measuring
    a network; every candidate is tried once in any case. cache: folder for converted graphs and
    choices; None keeps nothing.
    """

    executor: str = "auto"
    precision: str = "auto"
    same_bytes: bool = True
    rows: int = 16
    budget_s: float = 10.0
    cache: Path | None = None


def autotune_executors(model: LatentDiffusion, options: ExecutorOptions) -> Executors:
    """Return the fastest executors for a model on the CPU, of those that `options` allows.

    Raises ValueError if the executor requested by name is not available.
    """
    eager = eager_executors(model.unet, model.autoencoder, same_bytes=options.same_bytes)
    side = model.unet.config.sample_size
    denoiser = base.denoiser(model.unet)
    decoder = base.decoder(model.autoencoder, side)
    encoder = base.encoder(model.autoencoder, side * model.autoencoder.config.factor)
    denoising, denoise = autotune(denoiser, eager.denoiser, (2, options.rows), options)
    decoding, decode = autotune(decoder, eager.decoder, (1,), options)
    encoding, encode = autotune(encoder, eager.encoder, (1,), options)
    name = f"denoiser {denoising}, decoder {decoding}, encoder {encoding}"
    log.info("executors: %s", name)
    # With ControlNets eagerly: a graph would hold the UNet's weights a second time.
    return Executors(denoise, decode, encode, eager.controlled, name)


def _candidates(network: Network, eager: Run, options: ExecutorOptions) -> Candidates:
    found: Candidates = {}
    requested = options.executor
    precisions = _precisions(options.precision)
    if openvino.available() and requested in ("auto", "openvino"):
        for name in precisions:
            make = partial(openvino.OpenVino, network, DTYPES[name], options.cache)
            found[f"openvino {name}"] = make
    in_time = requested == "compile" or (requested == "auto" and options.budget_s >= COMPILE_S)
    if compiled.available() and in_time and network.name == "denoiser":
        for name in precisions:
            found[f"compile {name}"] = partial(compiled.Compiled, network, DTYPES[name], eager)
    if requested in ("auto", "eager") or (requested == "compile" and network.name != "denoiser"):
        found["eager fp32"] = lambda: eager
    if not found:
        raise ValueError(f"executor is {requested!r}, which is not available on this machine")
    return found


def _precisions(requested: str) -> list[str]:
    if requested != "auto":
        return [requested]
    return ["fp32", "bf16"] if openvino.available() and openvino.has_bfloat16() else ["fp32"]


def autotune(
    network: Network, exact: Run, rows: tuple[int, ...], options: ExecutorOptions
) -> tuple[str, Run]:
    """Return the candidate that was chosen before, or the one that measures fastest now."""
    candidates = _candidates(network, exact, options)
    file = options.cache and options.cache / f"{network.name}-{_cache_key(network, options)}.choice"
    if (name := _read_choice(file)) in candidates:
        return name, candidates[name]()
    runs = _exact_enough(network, exact, candidates, rows[0])
    if not runs:
        raise ValueError(f"no executor of {', '.join(candidates)} is exact enough for this model")
    name = _store_choice(file, _fastest(network, runs, rows, options.budget_s))
    return name, runs.get(name) or candidates[name]()


def _exact_enough(
    network: Network, exact: Run, candidates: Candidates, rows: int
) -> dict[str, Run]:
    """Return the candidates whose outputs differ little from those of eager float32, warmed up.

    The difference is the root mean square as a share of that of the output.
    """
    inputs = network.examples(rows)
    expected = exact(*inputs).float()
    found = {}
    for name, make in candidates.items():
        run = make()
        if run is not exact:
            difference = run(*inputs).float() - expected
            error = float(difference.square().mean().sqrt() / expected.square().mean().sqrt())
            if error > LARGEST_ERROR:
                log.warning("%s by %s is off by %.3f: not used", network.name, name, error)
                continue
        found[name] = run
    return found


def _fastest(network: Network, runs: dict[str, Run], rows: tuple[int, ...], budget_s: float) -> str:
    """Return the run with the least time for a row, at all row counts that there is time for.

    The first is always measured. At more rows only the fastest so far are run.
    """
    if len(runs) == 1:
        return next(iter(runs))
    ends = time.perf_counter() + budget_s
    seconds = dict.fromkeys(runs, 0.0)  # a row, summed over the row counts
    for turn, count in enumerate(rows):
        left_s = ends - time.perf_counter()
        least = min(seconds.values())
        racing = [name for name in runs if seconds[name] <= CLOSE * least]
        if turn and (len(racing) == 1 or _estimate_s(seconds, racing, turn, count) > left_s):
            break
        inputs = network.examples(count)
        for name in racing:
            taken = best_seconds(partial(runs[name], *inputs), REPEATS, left_s / len(racing))
            seconds[name] += taken / count
            log.info(
                "%s by %s: %.1f ms a row of %d", network.name, name, 1e3 * taken / count, count
            )
        seconds = {name: seconds[name] for name in racing}
    return min(seconds, key=seconds.__getitem__)


def _estimate_s(seconds: dict[str, float], racing: list[str], turns: int, rows: int) -> float:
    """Estimate the seconds of one call of each, from the average time of a row so far."""
    return sum(seconds[name] / turns * rows for name in racing)


def _cache_key(network: Network, options: ExecutorOptions) -> str:
    """Return a hash of everything that a choice depends on."""
    what = (
        base.fingerprint(network),
        _cpu(),
        str(torch.get_num_threads()),
        json.dumps(asdict(replace(options, cache=None))),
    )
    return hashlib.sha256("\n".join(what).encode()).hexdigest()[:32]


def _cpu() -> str:
    with suppress(OSError), open("/proc/cpuinfo") as lines:
        return next((line for line in lines if line.startswith("model name")), "")
    return torch.backends.cpu.get_cpu_capability()


def _read_choice(file: Path | None) -> str:
    """Return the choice made before, or an empty string."""
    with suppress(OSError):
        return "" if file is None else file.read_text()
    return ""


def _store_choice(file: Path | None, name: str) -> str:
    """Store a choice and return the one that counts for all who share the folder: the first."""
    if file is None:
        return name
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent) as temporary:
        os.chmod(temporary.name, 0o644)  # for workers of other users too
        temporary.write(name)
        temporary.flush()
        with suppress(FileExistsError):
            os.link(temporary.name, file)
    return file.read_text()
