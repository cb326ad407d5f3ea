"""Conversion of published checkpoints to the layout that the worker loads, in a child process.

Files are read as data and written as safetensors and JSON below one folder. The keys decide what a
file is. Keys that belong to no network are an error that names them, and nothing is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.checkpoints.convert.safetensors_writer import write_safetensors
from models.checkpoints.detect.configs import clip_config, tiny_config
from models.checkpoints.detect.detected_file import DetectedFile, detect_file
from models.checkpoints.detect.kinds import CLASS_KINDS, OTHER_UPSCALER, Kind
from models.checkpoints.detect.model_folder import weights_name, write_json, write_model_json
from models.checkpoints.detect.original_plans import NUMBERS
from models.checkpoints.detect.training_facts import (
    POOLED,
    configuration_file,
    pools_conditions,
    training_facts,
)
from models.checkpoints.detect.unsupported import refuse_network, refuse_pipeline
from models.checkpoints.errors import CheckpointError, CheckpointMismatch, Malformed
from models.checkpoints.file_hash import sha256_of
from models.checkpoints.files import (
    PEFT_CONFIG,
    PEFT_METADATA,
    PEFT_WEIGHTS,
    SAFE,
    component_files,
    is_last_step,
    read_json,
)
from models.checkpoints.hub import CONVERTIBLE, TOKENIZER_FILES, model_files
from models.checkpoints.key_plan import KeyPlan, KeySource, Shape, shapes_of
from models.checkpoints.keys.embeddings import ANY_PLACEHOLDER, VECTORS, vector_keys
from models.checkpoints.keys.paddle import paddle_plan
from models.checkpoints.keys.tiny import HALVES, Half, half_of, tiny_plan
from models.checkpoints.keys.upscaler import upscaler_network
from models.checkpoints.readers.arrays import Tensors, shapes_of_arrays
from models.checkpoints.readers.headers import read_header
from models.checkpoints.readers.weights_file import PADDLE, read_weights

# Called with the bytes done, the bytes in total, and the name of the component being written.
ConversionProgress = Callable[[int, int, str], None]

NO_METADATA: Mapping[str, str] = {}

# Weights without a folder of their own are written under this name.
FLAT = "weights.safetensors"


@dataclass
class Converted:
    """The result of a conversion: kind, title, the SHA-256 of each file written, and notes."""

    kind: Kind
    title: str
    hashes: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Conversion:
    """A source and the empty folder to write to.

    kind: the kind that the operator expects; the keys must agree. tokenizer: a folder with a
    vocabulary that the source itself does not hold. within: the folder that links in a source
    folder must not leave. pools: whether a ControlNet averages its residuals over the image; None
    for what its files or its name tell. ema: which weights of a model's UNet, see
    `models.checkpoints.checkpoint.load_component`.
    """

    source: Path
    target: Path
    kind: Kind | None = None
    tokenizer: Path | None = None
    within: Path | None = None
    pools: bool | None = None
    ema: bool | None = None
    report: ConversionProgress = lambda done, total, what: None

    def job(self) -> dict[str, str | bool | None]:
        """Return the fields but `report` as JSON values, with absolute paths."""
        paths = {
            "source": self.source.absolute(),
            "target": self.target.absolute(),
            "tokenizer": self.tokenizer,
            "within": self.within,
        }
        strings = {name: None if path is None else str(path) for name, path in paths.items()}
        return {"kind": self.kind, "pools": self.pools, "ema": self.ema, **strings}

    def run(self) -> Converted:
        """Convert the source. Raises CheckpointError and all its subclasses."""
        done = self._folder() if self.source.is_dir() else self._file()
        for path in sorted(self.target.rglob("*")):
            name = str(path.relative_to(self.target))
            if path.is_file() and name not in done.hashes:
                done.hashes[name] = sha256_of(path)
        return done

    def _expect(self, found: Kind) -> None:
        if self.kind not in (None, found):
            raise CheckpointError(f"{self.source.name} is a {found} by its keys, not a {self.kind}")
        if self.pools is not None and found != "controlnet":
            raise CheckpointError(
                f"{self.source.name} is a {found}: only a ControlNet has global_pool_conditions"
            )
        if self.ema is not None and found != "model":
            raise CheckpointError(
                f"{self.source.name} is a {found}: only a whole model has averaged weights (ema)"
            )

    # -- single files ---------------------------------------------------------------------------

    def _file(self) -> Converted:
        tensors = read_weights(self.source)
        file = detect_file(shapes_of_arrays(tensors))
        if half := half_of(file.shapes):
            return self._tiny(half, tensors)
        if self.kind == "upscaler" and upscaler_network(file.shapes) is None:
            # The parent process compares the weights with the network that spandrel finds.
            plan = _same_names("upscaler", tensors)
            return self._network("upscaler", tensors, plan, {"_class_name": OTHER_UPSCALER})
        self._expect(file.kind)
        if file.kind == "model":
            return self._whole_model(tensors, file.chosen(self.ema))
        if file.kind in ("lora", "embedding"):
            return self._flat(file.kind, tensors)
        config = file.config(file.kind)
        if file.kind == "controlnet" and pools_conditions(self.source):
            config["global_pool_conditions"] = True
        return self._network(file.kind, tensors, file.plan(file.kind), config)

    def _whole_model(self, tensors: Tensors, file: DetectedFile) -> Converted:
        if file.unknown:
            raise CheckpointMismatch(self.source.name, [], list(file.unknown), [])
        family = file.family
        if family.tokenizer != "clip" and self.tokenizer is None:
            raise CheckpointError(
                f"{family.title} reads the vocabulary of bert-base-uncased, which the file does "
                "not hold: say with --tokenizer where it is, a folder or a hub id"
            )
        configuration = configuration_file(self.source)
        name = self.source.stem if family.is_ambiguous else None
        numbers = _numbers(tensors)
        training = training_facts(configuration, file.shapes, self._metadata(), name, numbers)
        write_model_json(self.target, file, numbers, training)
        done = Converted("model", family.title, notes=list(training.notes))
        total = sum(_bytes(tensors, plan) for plan in file.held.values())
        parts = ((component, tensors, plan) for component, plan in file.held.items())
        self._write_components(parts, total, done)
        if family.tokenizer != "clip" and self.tokenizer is not None:
            _copy_tokenizer(self.tokenizer, self.target / "tokenizer")
        return done

    def _metadata(self) -> Mapping[str, str]:
        """Return the metadata of a safetensors file; other formats have none."""
        return read_header(self.source).metadata if self.source.suffix in SAFE else NO_METADATA

    def _write_components(
        self, parts: Iterable[tuple[str, Tensors, KeyPlan]], total: int, done: Converted
    ) -> None:
        """Write the components one after the other. total: their bytes, for the progress."""
        before = 0
        for component, tensors, plan in parts:
            name = f"{component}/{weights_name(component)}"
            done.hashes[name] = self._write(name, tensors, plan, (before, total, component))
            before += _bytes(tensors, plan)

    def _write(
        self,
        name: str,
        tensors: Tensors,
        plan: KeyPlan,
        position: tuple[int, int, str],
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> str:
        """Write one file and return its SHA-256.

        position: the bytes written before, the bytes in total, and the name to report.
        """
        before, total, what = position

        def progress(written: int) -> None:
            nonlocal before
            before += written
            self.report(before, total, what)

        path = self.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_safetensors(path, tensors, plan, metadata, progress)

    def _tiny(self, half: Half, tensors: Tensors) -> Converted:
        """Convert a tiny autoencoder: the source is one half, the other is next to it."""
        self._expect("vae")
        [other] = [name for name in HALVES if name != half]
        sibling = self.source.with_name(other.join(self.source.name.rsplit(half, 1)))
        if sibling == self.source or not sibling.is_file():
            raise CheckpointError(
                f"{self.source.name} is the {half} of a tiny autoencoder; its {other} must be in "
                f"the same folder, by the same name with {other} in place of {half}"
            )
        halves = {half: tensors, other: read_weights(sibling)}
        if half_of(halves[other]) != other:
            raise CheckpointError(f"{sibling.name} is no {other} of a tiny autoencoder")
        joined = {
            f"{name}.{key}": tensor for name in halves for key, tensor in halves[name].items()
        }
        plan = tiny_plan(halves)
        config = tiny_config(shapes_of(plan, shapes_of_arrays(joined)))
        return self._network("vae", joined, plan, config)

    def _network(
        self, kind: Kind, tensors: Tensors, plan: KeyPlan, config: dict[str, Any]
    ) -> Converted:
        """Write a network on its own: its configuration and its weights."""
        if self.pools is not None:
            config = {**config, "global_pool_conditions": self.pools}
        write_json(self.target / "config.json", config)
        done = self._write_flat(kind, tensors, plan, weights_name(kind))
        if config.get("global_pool_conditions"):
            done.notes.append(POOLED)
        return done

    def _flat(self, kind: Kind, tensors: Tensors) -> Converted:
        """Convert a LoRA or an embedding: one file of weights, which keep their names."""
        metadata = self._peft_metadata() if kind == "lora" else {}
        if self.source.suffix in SAFE and not metadata:
            # Copied unchanged: its metadata tell what it was trained on.
            shutil.copyfile(self.source, self.target / FLAT)
            return Converted(kind, kind, {FLAT: sha256_of(self.target / FLAT)})
        return self._write_flat(kind, tensors, _same_names(kind, tensors), FLAT, metadata)

    def _write_flat(
        self,
        kind: Kind,
        tensors: Tensors,
        plan: KeyPlan,
        name: str,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Converted:
        position = (0, _bytes(tensors, plan), kind)
        return Converted(kind, kind, {name: self._write(name, tensors, plan, position, metadata)})

    def _peft_metadata(self) -> dict[str, str]:
        """Return the PEFT configuration next to an adapter as metadata of its safetensors file.

        Only this configuration holds the adapter's alpha: in the header it stays with the weights.
        """
        config = self.source.with_name(PEFT_CONFIG)
        return {PEFT_METADATA: json.dumps(read_json(config))} if config.is_file() else {}

    # -- folders --------------------------------------------------------------------------------

    def _folder(self) -> Converted:
        names = [
            str(path.relative_to(self.source))
            for path in sorted(self.source.rglob("*"))
            if path.is_file()
        ]
        if "model_index.json" in names:
            self._expect("model")
            return self._model_folder(names)
        if "config.json" in names:
            return self._network_folder(names)
        if PEFT_CONFIG in names:
            return self._adapter_folder(names)
        raise CheckpointError(
            f"{self.source} has none of model_index.json, config.json and {PEFT_CONFIG}; of a "
            "folder with other files say which"
        )

    def _adapter_folder(self, names: list[str]) -> Converted:
        """Convert a folder that PEFT's `save_pretrained` wrote."""
        present = [name for name in PEFT_WEIGHTS if name in names]
        if not present:
            raise CheckpointError(f"{self.source} has none of {', '.join(PEFT_WEIGHTS)}")
        return replace(self, source=self._inside(present[0]))._file()

    def _model_folder(self, names: list[str]) -> Converted:
        index = read_json(self._inside("model_index.json"))
        refuse_pipeline(str(index.get("_class_name")), index)
        done = Converted("model", str(index.get("_class_name")))
        components: dict[str, list[Path]] = {}
        for name in model_files(names, half=False, suffixes=CONVERTIBLE, ema=self.ema):
            component, _, rest = name.partition("/")
            if rest.endswith(CONVERTIBLE):
                components.setdefault(component, []).append(self._inside(name))
            elif rest and ".index" not in rest and rest not in ("config.json", "model_config.json"):
                self._copy_small(name)
        if self.ema is False and not any(is_last_step(p.name) for p in components.get("unet", ())):
            raise CheckpointError(f"ema is false, and {self.source.name} holds one set of weights")
        self._convert_components(components, done)
        if "safety_checker" in index and "safety_checker" not in components:
            index["safety_checker"] = [None, None]
        for key in [key for key in index if key.startswith("_") and key != "_class_name"]:
            del index[key]
        write_json(self.target / "model_index.json", index)
        return done

    def _convert_components(self, components: dict[str, list[Path]], done: Converted) -> None:
        if _is_paddle(components.get("safety_checker", [])):
            # No list of its keys is published, and their names differ from the text encoder's.
            done.notes.append("Paddle's safety checker is left out")
            del components["safety_checker"]
        total = sum(path.stat().st_size for files in components.values() for path in files)
        parts = (self._read_component(name, files) for name, files in components.items())
        self._write_components(parts, total, done)

    def _read_component(self, component: str, files: list[Path]) -> tuple[str, Tensors, KeyPlan]:
        """Read a component and write its config.json."""
        tensors = _joined(files)
        plan = _plan(component, files, tensors)
        self._write_config(component, files, shapes_of(plan, shapes_of_arrays(tensors)))
        return component, tensors, plan

    def _write_config(self, component: str, files: list[Path], shapes: Mapping[str, Shape]) -> None:
        path = self.source / component / "config.json"
        if component == "text_encoder" and _is_paddle(files) and not path.is_file():
            # paddlenlp writes model_config.json with other names; the shapes give the same.
            config = clip_config(shapes, hidden_act="quick_gelu")
        else:
            config = read_json(self._inside(f"{component}/config.json"))
        write_json(self.target / component / "config.json", config)

    def _network_folder(self, names: list[str]) -> Converted:
        config = read_json(self._inside("config.json"))
        kind = CLASS_KINDS.get(str(config.get("_class_name")))
        if kind is None:
            refuse_network(str(config.get("_class_name")))
            raise CheckpointError(
                f"{self.source}/config.json is of {config.get('_class_name')!r}; "
                f"have {', '.join(CLASS_KINDS)}"
            )
        self._expect(kind)
        chosen = component_files(names, half=False, suffixes=CONVERTIBLE)
        files = [self._inside(name) for name in chosen if name.endswith(CONVERTIBLE)]
        if not files:
            raise CheckpointError(f"{self.source} holds no weights")
        tensors = _joined(files)
        return self._network(kind, tensors, _plan(kind, files, tensors), config)

    def _copy_small(self, name: str) -> None:
        path = self.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._inside(name), path)

    def _inside(self, name: str) -> Path:
        """Return a file of the source folder. Raises Malformed for a link that leaves `within`."""
        path = self.source / name
        root = (self.within or self.source).resolve()
        if not path.resolve().is_relative_to(root):
            raise Malformed(f"{name} is a link that leads out of {self.source.name}")
        return path


def _same_names(kind: Kind, tensors: Tensors) -> KeyPlan:
    """Return the plan that keeps every name.

    An embedding in the published form holds its token's number in addition to its vectors: only the
    vectors are kept, and without a placeholder of their own they have the usual name.
    """
    kept = vector_keys(tensors) if kind == "embedding" else tensors
    return {VECTORS if name == ANY_PLACEHOLDER else name: KeySource(name) for name in kept}


def _plan(component: str, files: list[Path], tensors: Tensors) -> KeyPlan:
    shapes = shapes_of_arrays(tensors)
    return paddle_plan(shapes) if _is_paddle(files) else detect_file(shapes).plan(component)


def _is_paddle(files: list[Path]) -> bool:
    return any(path.suffix in PADDLE for path in files)


def _joined(files: list[Path]) -> Tensors:
    """Return the tensors of all shards of a component."""
    tensors: Tensors = {}
    for path in files:
        for name, typed in read_weights(path).items():
            if name in tensors:
                raise Malformed(f"{path.name} holds {name}, which another shard holds too")
            tensors[name] = typed
    return tensors


def _bytes(tensors: Tensors, plan: KeyPlan) -> int:
    """Return the bytes that a plan writes; the parameters cut from one key count once."""
    return sum(tensors[key].array.nbytes for key in {source.key for source in plan.values()})


def _numbers(tensors: Tensors) -> dict[str, float]:
    """Return the numbers that a file holds beside its weights."""
    found = {key: tensors[key] for key in NUMBERS if key in tensors}
    return {
        key: float(one.array.reshape(-1)[0])
        for key, one in found.items()
        if one.array.size == 1 and one.dtype != "BF16"
    }


def _copy_tokenizer(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for either in (("tokenizer_config.json",), ("vocab.txt", "tokenizer.json")):
        if not any((source / name).is_file() for name in either):
            raise CheckpointError(f"{source} has no {' or '.join(either)}")
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
