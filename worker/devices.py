"""`python -m worker.devices`: the devices a worker may have to itself, one a line."""

import torch

from models.loading.loader import default_device


def devices() -> list[str]:
    """Every GPU, or else what a worker takes by itself."""
    return [f"cuda:{n}" for n in range(torch.cuda.device_count())] or [default_device().type]


if __name__ == "__main__":
    print("\n".join(devices()))
