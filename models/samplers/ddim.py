"""DDIM without fresh noise: Song et al. 2021, "Denoising Diffusion Implicit Models", eq. 12."""

from models.samplers.levels import stride_levels, transfer
from models.samplers.spacing import Schedule, rows_skipped
from models.samplers.table import CLEAN, PURE_NOISE, Row, SamplerTable
from models.schedule import NoiseSchedule


def ddim(
    noise_schedule: NoiseSchedule, schedule: Schedule, steps: int, strength: float | None
) -> SamplerTable:
    levels = stride_levels(schedule, steps, noise_schedule, alpha_to_one=True)
    skipped = rows_skipped(steps, strength)
    positions = levels.positions[skipped:]
    # The known region waits for the next evaluation at the level the network will be told.
    known = [levels.level(position) for position in positions[1:]] + [CLEAN]
    rows = []
    for row, position in enumerate(positions):
        keep_x, weight = transfer(
            levels.level(position),
            levels.level(position - levels.stride),
            noise_schedule.prediction_type,
        )
        rows.append(Row(levels.timesteps[skipped + row], keep_x, (weight,), known[row]))
    start = PURE_NOISE if strength is None else levels.level(positions[0])
    return SamplerTable.from_rows(start, rows)
