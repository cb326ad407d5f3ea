"""The noise levels of a published scheduler configuration, of any kind."""

from collections.abc import Mapping
from typing import Any

from models.samplers.edm_schedule import EdmSchedule
from models.samplers.flow_schedule import FlowSchedule
from models.samplers.noise_schedule import NoiseLevels, NoiseSchedule
from models.samplers.scheduler_config import Training, training_of

_KINDS: Mapping[Training, type[NoiseSchedule] | type[EdmSchedule] | type[FlowSchedule]] = {
    "betas": NoiseSchedule,
    "edm": EdmSchedule,
    "flow": FlowSchedule,
}


def published_levels(config: Mapping[str, Any]) -> NoiseLevels:
    """Return the noise levels of a `scheduler_config.json`.

    Raises ValueError for a class or a value that is computed differently here, naming it.
    """
    return _KINDS[training_of(config)].from_config(config)
