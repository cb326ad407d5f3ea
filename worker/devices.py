"""`python -m worker.devices`: print the devices that can have a worker each, one per line."""

import torch

from models.loading.loader import default_device


def devices() -> list[str]:
    """Return every GPU, or else the default device of a worker."""
    return [f"cuda:{n}" for n in range(torch.cuda.device_count())] or [default_device().type]


if __name__ == "__main__":
    print("\n".join(devices()))
