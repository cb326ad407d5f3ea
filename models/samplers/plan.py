"""The input from which a sampler's table is compiled."""

from dataclasses import dataclass

from models.samplers.noise_schedule import NoiseLevels, PredictionType
from models.samplers.schedules.registry import Schedule
from models.samplers.spacing import rows_skipped


@dataclass(frozen=True)
class Plan:
    """One run from noise to image, for any sampler.

    strength None starts from pure noise, a number in (0, 1] from z0 with noise added: the noisiest
    steps are then left out. eta in [0, 1] is DDIM's share of fresh noise.
    """

    noise_schedule: NoiseLevels
    schedule: Schedule
    steps: int
    strength: float | None = None
    eta: float = 0.0

    @property
    def skipped(self) -> int:
        """Return the number of the noisiest steps that are left out."""
        return rows_skipped(self.steps, self.strength)

    @property
    def prediction_type(self) -> PredictionType:
        return self.noise_schedule.prediction_type
