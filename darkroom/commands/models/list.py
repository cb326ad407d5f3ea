"""`darkroom models list`: list the models of a running server, or the configured models."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from darkroom.addresses import server_url
from darkroom.arguments import server
from darkroom.client import connect
from darkroom.signals import run_until_signal
from darkroom.terminal import TextConsole
from darkroom_client import Model, ServerUnreachable
from protocol.registry.models_config import InvalidModelsConfig, read_models_config
from protocol.request.fields import normal_form
from protocol.settings import Settings
from protocol.startup import InvalidSettings, read_settings

HELP = "list the models"


class NoSuchModel(InvalidSettings):
    """The configured model does not exist."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "List the models of a running Darkroom. If none is running, list the models of the file "
        "DARKROOM_CATALOGUE, or else the model DARKROOM_MODEL."
    )
    parser.add_argument(
        "--url", type=server, help="address of the server (default: this machine's, by HOST, PORT)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    settings = read_settings(Settings)
    console = TextConsole()
    url = arguments.url or server_url(settings)
    try:
        served = run_until_signal(_served(url))
    except ServerUnreachable:
        if arguments.url:
            raise
        if settings.catalogue is not None:
            _print_models_config(console, settings.catalogue)
        else:
            _print_model(console, settings)
    else:
        console.print(_table(served or ()))
    return 0


async def _served(url: str) -> tuple[Model, ...]:
    async with connect(url) as client:
        return await client.models()


def _table(models: Sequence[Model]) -> Table:
    table = Table("model", "size", "tasks", "by default", "state", box=None, header_style="bold")
    for model in models:
        table.add_row(
            ", ".join([model.name, *model.aliases]),
            f"{model.default_width}×{model.default_height}",
            ", ".join(model.tasks),
            f"{model.default_steps} steps of {model.default_sampler}",
            _state(model),
        )
    return table


def _state(model: Model) -> str:
    if model.ready:
        return "ready"
    if model.loading is not None:
        return f"loading, {model.loading:.0%} done"
    if model.trouble:
        return f"cannot be loaded: {model.trouble}"
    return "loads on demand" if model.on_demand else "no worker"


def _print_models_config(console: Console, file: Path) -> None:
    try:
        models = read_models_config(file).models
    except InvalidModelsConfig as error:
        raise InvalidSettings(f"DARKROOM_CATALOGUE: {error}") from error
    console.print(f"No Darkroom is running. Models in {file}:", soft_wrap=True)
    for name, model in models.items():
        also = f" (also {', '.join(model.aliases)})" if model.aliases else ""
        when = "always loaded" if model.resident is True else "on demand"
        line = f"  {name}{also}: {model.source}, {when}"
        console.print(line, soft_wrap=True)


def _print_model(console: Console, settings: Settings) -> None:
    text = f"No Darkroom is running. Configured model: {_describe_model(settings)}"
    console.print(text, soft_wrap=True)


def _describe_model(settings: Settings) -> str:
    """Describe the configured model; a local folder is described from its configuration files.

    Raises:
        NoSuchModel: the setting is neither a model folder, a model file nor a hub id.
    """
    model, folder = settings.model, _folder(settings)
    if (folder / "model_index.json").is_file():
        name = "the bundled model" if model in (None, "bundled") else str(folder)
        try:
            return f"{name}, {_read(folder / 'model_index.json')['_class_name']}, {_size(folder)}"
        except (LookupError, OSError, StopIteration, TypeError, ValueError) as error:
            raise NoSuchModel(
                f"DARKROOM_MODEL: {folder} holds no model that can be read: "
                f"see `darkroom models check {folder}`"
            ) from error
    if folder.suffix == ".safetensors" and folder.is_file():
        return f"{folder}, a single file"
    if str(model).count("/") == 1 and not folder.exists():
        return f"{model}, from the Hugging Face hub"
    raise NoSuchModel(f"DARKROOM_MODEL: {folder} holds no model: there is no model_index.json")


def _folder(settings: Settings) -> Path:
    """Return the path of the configured model: the bundled one, an added one, or a given path."""
    # Only here: the worker loads models, this command reads three small files.
    import models

    if settings.model in (None, "bundled"):
        return Path(models.__file__).parent / "bundled"
    model = str(settings.model)
    added = settings.models_home / "models" / normal_form(model)
    return added if "/" not in model and added.is_dir() else Path(model).expanduser()


def _size(folder: Path) -> str:
    """Return the model's native size; the autoencoder halves the image between its levels."""
    first_stage = "vae" if (folder / "vae").is_dir() else "vqvae"
    levels = len(_read(folder / first_stage / "config.json")["block_out_channels"])
    latent = _read(folder / "unet" / "config.json")["sample_size"]
    side = int(latent[0] if isinstance(latent, list) else latent) * 2 ** (levels - 1)
    return f"{side}×{side}"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
