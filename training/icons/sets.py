"""Seven openly licensed emoji sets, fetched from npm and read from the Iconify JSON format."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Iconify prefix -> style word of the set in captions.
ICON_SETS = {
    "fluent-emoji": "fluent",
    "fluent-emoji-flat": "flat",
    "noto": "noto",
    "noto-v1": "blob",
    "twemoji": "twemoji",
    "emojione": "emojione",
    "fxemoji": "firefox",
}
LABELS_PACKAGE = "emojibase-data"


@dataclass(frozen=True)
class Icon:
    """One emoji image: `svg` is a whole document, `width` and `height` are in its units."""

    icon_set: str
    name: str
    svg: str
    width: float
    height: float


@dataclass(frozen=True)
class Attribution:
    """Author and licence of a set, from its package."""

    package: str
    version: str
    title: str
    author: str
    author_url: str
    licence: str
    licence_url: str


def fetch_packages(folder: Path) -> None:
    """Install the icon sets and the labels under `folder`. Raises CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    packages = [f"@iconify-json/{prefix}" for prefix in ICON_SETS] + [LABELS_PACKAGE]
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run(["npm", "install", *quiet, "--prefix", str(folder), *packages], check=True)


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def set_folder(folder: Path, icon_set: str) -> Path:
    """Return the folder of a set that `fetch_packages(folder)` installed."""
    return folder / "node_modules" / "@iconify-json" / icon_set


def labels_folder(folder: Path) -> Path:
    """Return the folder of the labels that `fetch_packages(folder)` installed."""
    return folder / "node_modules" / LABELS_PACKAGE


def read_icons(icon_set: str, data: dict[str, Any]) -> list[Icon]:
    """Return the icons of an `icons.json`, sorted by name, without aliases, which repeat icons."""
    return [_icon(icon_set, name, record, data) for name, record in sorted(data["icons"].items())]


def _icon(icon_set: str, name: str, record: dict[str, Any], data: dict[str, Any]) -> Icon:
    # A record inherits missing values from the set; 16 is Iconify's own default.
    left, top, width, height = (
        record.get(key, data.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{record["body"]}</svg>'
    )
    return Icon(icon_set, name, svg, width, height)


def read_attribution(package_folder: Path) -> Attribution:
    """Read the attribution of an Iconify package from `info.json` and `package.json`."""
    info = read_json(package_folder / "info.json")
    package = read_json(package_folder / "package.json")
    return Attribution(
        package=package["name"],
        version=package["version"],
        title=info["name"],
        author=info["author"]["name"],
        author_url=info["author"].get("url", ""),
        licence=info["license"]["spdx"],
        licence_url=info["license"]["url"],
    )


def read_labels_attribution(package_folder: Path) -> Attribution:
    """Read the attribution of the labels package, which has no `info.json`."""
    package = read_json(package_folder / "package.json")
    author = package.get("author", "")
    return Attribution(
        package=package["name"],
        version=package["version"],
        title="Emojibase labels and tags",
        author=author["name"] if isinstance(author, dict) else author,
        author_url=package.get("homepage", ""),
        licence=package["license"],
        licence_url="https://opensource.org/license/mit",
    )
