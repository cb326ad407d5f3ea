"""The training set: emoji images with captions and sampling weights, cached as two files."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from training.icons.captions import (
    Labels,
    captions,
    coloured_captions,
    is_kept,
    plain_name,
    weight,
)
from training.icons.colours import COLOURS, colour_name, in_colours
from training.icons.everyday import EVERYDAY
from training.icons.sets import (
    ICON_SETS,
    Icon,
    fetch_packages,
    labels_folder,
    read_icons,
    read_json,
    set_folder,
)

#: Images for a machine that cannot fetch or render the icons, see `training/h200.sh`.
PACKED = Path("build/training-images.zip")

#: The style whose everyday icons are copied in other colours: the one that is sampled most.
RECOLOURED_STYLE = "twemoji"
# All copies of an icon are sampled this often, relative to the icon.
_RECOLOURED_SHARE = 0.5

_LISTS = ("captions", "weights", "styles")
# Icons are rendered with at least this side, and at least twice the side of the result.
_RENDERED_SIDE = 256


@dataclass(frozen=True)
class EmojiImages:
    """Pixels (N, S, S, 3) uint8 on white, with N lists of captions and N sampling weights.

    The first caption of an image is its plain name. `styles` holds the N style words.
    """

    pixels: npt.NDArray[np.uint8]
    captions: list[list[str]]
    weights: npt.NDArray[np.float64]
    styles: list[str]

    def save(self, folder: Path) -> None:
        """Write `pixels.npy` and `captions.json` into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "pixels.npy", self.pixels)
        (folder / "captions.json").write_text(self._record(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the files of `save`. Raises FileNotFoundError before the data step has run."""
        return cls._of(np.load(folder / "pixels.npy"), read_json(folder / "captions.json"))

    def pack(self, file: Path) -> None:
        """Write one archive with a lossless WebP file for each image, a twelfth of the size."""
        file.parent.mkdir(parents=True, exist_ok=True)
        with ZipFile(file, "w") as archive:
            archive.writestr("captions.json", self._record(), ZIP_DEFLATED)
            for i, pixels in enumerate(self.pixels):
                with archive.open(f"{i}.webp", "w") as entry:
                    Image.fromarray(pixels).save(entry, "WEBP", lossless=True, method=4)

    @classmethod
    def unpack(cls, file: Path) -> Self:
        """Read the archive of `pack`."""
        with ZipFile(file) as archive:
            record = json.loads(archive.read("captions.json"))
            pixels = [
                np.asarray(Image.open(BytesIO(archive.read(f"{i}.webp"))))
                for i in range(len(record["captions"]))
            ]
        return cls._of(np.stack(pixels), record)

    def every(self, number: int) -> EmojiImages:
        """Return every `number`-th image, for a quick run."""
        return EmojiImages(
            self.pixels[::number],
            self.captions[::number],
            self.weights[::number],
            self.styles[::number],
        )

    def with_other_colours(self) -> EmojiImages:
        """Return these images and copies of everyday icons in colours that no icon has."""
        known = {texts[0] for texts in self.captions}
        pixels, texts, weights = [], [], []
        for i, (plain, style) in enumerate(zip(self.plain_names, self.styles, strict=True)):
            if plain not in EVERYDAY or style != RECOLOURED_STYLE or COLOURS & set(plain.split()):
                continue
            copies = in_colours(self.pixels[i])
            for colour, copy in copies.items():
                if f"{colour} {plain}" not in known:
                    pixels.append(copy)
                    texts.append(coloured_captions(plain, colour))
                    weights.append(_RECOLOURED_SHARE * self.weights[i] / len(copies))
        if not pixels:
            return self
        return EmojiImages(
            np.concatenate([self.pixels, np.stack(pixels)]),
            self.captions + texts,
            np.concatenate([self.weights, weights]),
            self.styles + [RECOLOURED_STYLE] * len(pixels),
        )

    @property
    def plain_names(self) -> list[str]:
        """The plain names of all images."""
        return [texts[0] for texts in self.captions]

    def _record(self) -> str:
        lists = (self.captions, self.weights.tolist(), self.styles)
        return json.dumps(dict(zip(_LISTS, lists, strict=True)))

    @classmethod
    def _of(cls, pixels: npt.NDArray[np.uint8], record: dict[str, Any]) -> Self:
        captions, weights, styles = (record[name] for name in _LISTS)
        return cls(pixels, captions, np.array(weights), styles)


def render(icon: Icon, size: int) -> npt.NDArray[np.uint8] | None:
    """Render an icon, centred on white, as (size, size, 3) uint8; None if its SVG is invalid.

    It is rendered larger and averaged down, because direct rendering breaks up thin outlines.
    """
    import resvg_py  # machines that train on packed images lack it

    factor = max(2, _RENDERED_SIDE // size)
    side = size * factor
    longest = max(icon.width, icon.height)
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=icon.svg,
            width=round(side * icon.width / longest),
            height=round(side * icon.height / longest),
            background="#ffffff",
            skip_system_fonts=True,
        )
    except ValueError:
        return None
    image = Image.open(BytesIO(bytes(png))).convert("RGB")
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(canvas.reduce(factor))


def _render_job(job: tuple[Icon, int]) -> npt.NDArray[np.uint8] | None:
    return render(*job)


def read_labels(packages: Path) -> Labels:
    """Read the labels that `fetch_packages` fetched, and the words of icon and Unicode names."""
    folder = labels_folder(packages)
    unicode_names = read_json(folder / "meta" / "unicode-names.json").values()
    icon_names = read_json(set_folder(packages, "noto") / "icons.json")["icons"]
    return Labels.from_emojibase(
        read_json(folder / "en" / "data.json"), [*unicode_names, *icon_names]
    )


def select_icons(packages: Path) -> list[Icon]:
    """Read the icons of all sets except skin-tone variants."""
    kept = []
    for icon_set in ICON_SETS:
        icons = read_icons(icon_set, read_json(set_folder(packages, icon_set) / "icons.json"))
        names = {icon.name for icon in icons}
        kept += [icon for icon in icons if is_kept(icon.name, names)]
    return kept


def build(packages: Path, size: int) -> EmojiImages:
    """Render and caption every selected icon, with a side of `size` pixels."""
    labels = read_labels(packages)
    icons = select_icons(packages)
    with ProcessPoolExecutor() as pool:
        jobs = pool.map(_render_job, ((icon, size) for icon in icons), chunksize=32)
        rendered = list(tqdm(jobs, total=len(icons), desc="rendering", unit="icon"))
    named = [
        (pixels, plain_name(icon.name, labels), ICON_SETS[icon.icon_set])
        for icon, pixels in zip(icons, rendered, strict=True)
        if pixels is not None and pixels.std() > 1  # empty images are left out
    ]
    art = EmojiImages(
        pixels=np.stack([pixels for pixels, _, _ in named]),
        captions=[
            captions(plain, style, labels, colour_name(pixels)) for pixels, plain, style in named
        ],
        weights=np.array([weight(plain, style, labels) for _, plain, style in named]),
        styles=[style for _, _, style in named],
    )
    return art.with_other_colours()


def averaged(pixels: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Return images (N, S, S, 3) uint8 averaged over squares of `factor` pixels."""
    count, side, _, channels = pixels.shape
    squares = pixels.reshape(count, side // factor, factor, side // factor, factor, channels)
    return np.rint(squares.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def kept_images(root: Path, size: int) -> EmojiImages:
    """Return the images of the work folder `root`, which the first call stores there.

    They are unpacked from `PACKED` if that file exists, else the icons are fetched and rendered.
    """
    folder = root / f"data-{size}"
    if folder.exists():
        return EmojiImages.load(folder)
    if PACKED.exists():
        art = EmojiImages.unpack(PACKED)
        factor = art.pixels.shape[1] // size
        replace(art, pixels=averaged(art.pixels, factor)).save(folder)
    else:
        fetch_packages(root / "icons")
        build(root / "icons", size).save(folder)
    return EmojiImages.load(folder)
