"""The files that `darkroom generate` writes, and the lines that it prints about them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from darkroom_client import AsyncResult, ImageFile, Recipe
from protocol.folder import Folder


class CannotWrite(RuntimeError):
    """An image cannot be written, although the folder could be written to before."""


async def write_images(
    paths: Sequence[Path], result: AsyncResult, as_json: bool, console: Console
) -> None:
    """Write the images of a job with their extra files, next to them: out.png, out-depth.png.

    `as_json`: the recipe of each image is printed to standard output. Raises CannotWrite.
    """
    for path, image in zip(paths, result.images, strict=True):
        _write(path, image, console)
        if as_json:
            print(json.dumps(_line(path, image, result, await image.recipe())), flush=True)
    for warning in result.warnings:
        console.print(f"warning: {warning.detail}", soft_wrap=True)


def _line(path: Path, image: ImageFile, result: AsyncResult, recipe: Recipe) -> dict[str, Any]:
    """Return what is printed of an image; `request` can be sent again as it is."""
    return {
        "file": str(path),
        "job": result.id,
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "task": recipe.task,
        "request": recipe.request,
        "needs": list(recipe.needs),
        "warnings": [warning.detail for warning in result.warnings],
    }


def _write(path: Path, image: ImageFile, console: Console) -> None:
    files = {path: image.content} | {
        path.with_name(f"{path.stem}-{extra.kind}.{extra.format}"): extra.content
        for extra in image.extras.values()
    }
    for file, content in files.items():
        try:
            # By another name first: if the disk is full, an older file stays as it is.
            Folder(file.parent).write(file.name, content)
        except OSError as error:
            raise CannotWrite(f"{file} cannot be written: {error.strerror}") from error
        console.print(f"wrote {file}", soft_wrap=True)
    if image.flagged:
        console.print(f"{path}: the model's safety checker has flagged it", soft_wrap=True)
