"""A small nonlinear network, scheduler configurations, and a table run to its end."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from models.samplers.noise_schedule import FloatArray
from models.samplers.table import SamplerTable, apply, known, start

SHAPE = (1, 4, 2, 3)
Network = Callable[[FloatArray, float], FloatArray]

# Written as published: missing keys are part of the test.
SD15: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
SDXL = SD15 | {
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
VELOCITY = SD15 | {"prediction_type": "v_prediction", "set_alpha_to_one": True, "steps_offset": 0}
BUNDLED = SD15 | {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
# Only the betas, as in the oldest files: each scheduler uses its own defaults.
BARE: dict[str, Any] = {
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "skip_prk_steps": True,
}
X0 = SDXL | {"prediction_type": "sample"}
CONFIGS = {
    "sd15": SD15,
    "sdxl": SDXL,
    "velocity": VELOCITY,
    "bundled": BUNDLED,
    "bare": BARE,
    "x0": X0,
}


def toy_network(seed: int = 0) -> Network:
    """Return a network with random weights: (x of SHAPE, timestep) -> output, nonlinear in both."""
    generator = np.random.default_rng(seed)
    size, hidden = int(np.prod(SHAPE)), 32
    inward = generator.normal(size=(size, hidden)) / size**0.5
    in_time = generator.normal(size=(6, hidden))
    outward = generator.normal(size=(hidden, size)) / hidden**0.5

    def network(x: FloatArray, timestep: float) -> FloatArray:
        angles = timestep / 1000 * np.array([1.0, 3.0, 9.0])
        time = np.concatenate([np.sin(angles), np.cos(angles)])
        output: FloatArray = np.tanh(x.reshape(-1) @ inward + time @ in_time) @ outward
        return output.reshape(x.shape)

    return network


def unit_noise(seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=SHAPE)


def walk(
    table: SamplerTable,
    network: Network,
    z0: FloatArray,
    initial_noise: FloatArray,
    fresh_noise: Callable[[int], FloatArray] = lambda row: np.zeros(SHAPE),
    mask: FloatArray | None = None,
) -> Iterator[FloatArray]:
    """Return x at the start and after each row; mask is 1 where an image is inpainted."""
    x = start(table, z0, initial_noise)
    history: tuple[FloatArray, ...] = ()
    yield x
    for row in range(len(table)):
        output = network(table.input_scale[row] * x, float(table.timestep[row]))
        noise = fresh_noise(row)
        if table.carried_noise[row]:
            noise = noise + table.carried_noise[row] * fresh_noise(row - 1)
        x, history = apply(table, row, x, output, history, noise)
        if mask is not None:
            x = mask * x + (1 - mask) * known(table, row, z0, initial_noise)
        yield x
