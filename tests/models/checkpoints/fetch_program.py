"""A program that fetches or loads a model: `fetch_program ACTION REPOSITORY`."""

import sys

from models.checkpoints.errors import CheckpointError
from models.checkpoints.hub import fetch


def main(action: str, repository: str) -> None:
    if action == "fetch":
        try:
            print(fetch(repository, half=False))
        except CheckpointError as error:
            sys.exit(f"{type(error).__name__}: {error}")
    elif action == "report":
        fetch(repository, report=lambda here, total: print(here, total))
    elif action == "load":
        import torch

        from models.loading.loader import load_model

        load_model(
            repository,
            torch.device("cpu"),
            report=lambda share, doing: print(f"{share:.4f} {doing}"),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
