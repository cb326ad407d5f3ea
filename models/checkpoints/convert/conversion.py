"""From what people bring to the layout that is served. Runs in a process of its own (`child`).

Everything is read as data and written as safetensors and JSON below one folder. What a file is,
its keys say; keys that belong to nothing are named, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.checkpoints.convert.safetensors_writer import write_safetensors
from models.checkpoints.detect.configs import clip_config, config_alone, tiny_config
from models.checkpoints.detect.families import detect
from models.checkpoints.detect.kinds import CLASS_KINDS, Kind, kind_of
from models.checkpoints.detect.layout import stem, write_json, write_json_files
from models.checkpoints.detect.original import MARKS, SCALE_FACTOR, take_apart
from models.checkpoints.detect.spelling import component_plan
from models.checkpoints.errors import CheckpointError, CheckpointMismatch, Malformed
from models.checkpoints.files import read_json
from models.checkpoints.hub import CONVERTIBLE, PEFT_CONFIG, PEFT_WEIGHTS, choose, rendering
from models.checkpoints.keys.paddle import paddle_plan
from models.checkpoints.keys.tiny import HALVES, Half, half_of, tiny_plan
from models.checkpoints.parts import Part, Plan, Shape, shapes_of
from models.checkpoints.readers.arrays import Tensors, shapes_of_arrays
from models.checkpoints.readers.weights_file import PADDLE, SAFE, read_weights

# Hears the bytes done, the bytes there are, and what is being written.
Report = Callable[[int, int, str], None]

# Where a header has what PEFT's configuration says.
PEFT_METADATA = "lora_adapter_metadata"

NOTHING: Mapping[str, str] = {}

# Weights without a folder of their own are written under this name.
FLAT = "weights.safetensors"


@dataclass
class Converted:
    """What was written: of which kind, what it is called, the SHA-256 of each file, and remarks."""

    kind: Kind
    title: str
    hashes: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Conversion:
    """One source and the empty folder to write to.

    kind: what the operator says it is; its keys must agree. tokenizer: a folder with a vocabulary
    that the source itself does not hold. within: where links in a source folder may lead.
    """

    source: Path
    target: Path
    kind: Kind | None = None
    tokenizer: Path | None = None
    within: Path | None = None
    report: Report = lambda done, total, what: None

    def run(self) -> Converted:
        """Raises CheckpointError of every kind."""
        done = self._folder() if self.source.is_dir() else self._file()
        for path in sorted(self.target.rglob("*")):
            name = str(path.relative_to(self.target))
            if path.is_file() and name not in done.hashes:
                done.hashes[name] = _hash(path)
        return done

    def _expect(self, found: Kind) -> None:
        if self.kind not in (None, found):
            raise CheckpointError(f"{self.source.name} is a {found} by its keys, not a {self.kind}")

    # -- single files ---------------------------------------------------------------------------

    def _file(self) -> Converted:
        tensors = read_weights(self.source)
        shapes = shapes_of_arrays(tensors)
        if half := half_of(shapes):
            return self._tiny(half, tensors)
        kind = kind_of(shapes)
        self._expect(kind)
        if kind == "model":
            return self._whole_model(tensors, shapes)
        if kind in ("lora", "embedding"):
            return self._flat(kind, tensors)
        return self._network(kind, tensors, shapes)

    def _whole_model(self, tensors: Tensors, shapes: Mapping[str, Shape]) -> Converted:
        family = detect(shapes)
        contents = take_apart(shapes, family)
        if contents.unknown:
            raise CheckpointMismatch(self.source.name, [], list(contents.unknown), [])
        if family.tokenizer != "clip" and self.tokenizer is None:
            raise CheckpointError(
                f"{family.title} reads the vocabulary of bert-base-uncased, which the file does "
                "not hold: say with --tokenizer where it is, a folder or a hub id"
            )
        write_json_files(self.target, family, contents, shapes, _buffers(tensors))
        done = Converted("model", family.title)
        self._write_all(tensors, contents.components, done)
        if family.tokenizer != "clip" and self.tokenizer is not None:
            _copy_tokenizer(self.tokenizer, self.target / "tokenizer")
        return done

    def _write_all(self, tensors: Tensors, parts: Mapping[str, Plan], done: Converted) -> None:
        total = sum(_bytes(tensors, plan) for plan in parts.values())
        before = 0
        for part, plan in parts.items():
            name = f"{part}/{stem(part)}.safetensors"
            done.hashes[name] = self._write(name, tensors, plan, (before, total, part))
            before += _bytes(tensors, plan)

    def _write(
        self,
        name: str,
        tensors: Tensors,
        plan: Plan,
        way: tuple[int, int, str],
        metadata: Mapping[str, str] = NOTHING,
    ) -> str:
        """`way`: the bytes done before, the bytes there are, and what this is."""
        before, total, what = way

        def progress(written: int) -> None:
            nonlocal before
            before += written
            self.report(before, total, what)

        path = self.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_safetensors(path, tensors, plan, metadata, progress)

    def _network(self, kind: Kind, tensors: Tensors, shapes: Mapping[str, Shape]) -> Converted:
        plan = component_plan(kind, shapes)
        write_json(self.target / "config.json", config_alone(kind, shapes_of(plan, shapes)))
        return self._flat(kind, tensors, plan, "diffusion_pytorch_model.safetensors")

    def _tiny(self, half: Half, tensors: Tensors) -> Converted:
        """A tiny autoencoder, of which the source is one half; the other lies beside it."""
        self._expect("vae")
        [other] = [name for name in HALVES if name != half]
        beside = self.source.with_name(other.join(self.source.name.rsplit(half, 1)))
        if beside == self.source or not beside.is_file():
            raise CheckpointError(
                f"{self.source.name} is the {half} of a tiny autoencoder; its {other} must lie "
                f"beside it, by the same name with {other} in place of {half}"
            )
        halves = {half: tensors, other: read_weights(beside)}
        if half_of(halves[other]) != other:
            raise CheckpointError(f"{beside.name} is no {other} of a tiny autoencoder")
        joined = {
            f"{name}.{key}": tensor for name in halves for key, tensor in halves[name].items()
        }
        plan = tiny_plan(halves)
        write_json(
            self.target / "config.json", tiny_config(shapes_of(plan, shapes_of_arrays(joined)))
        )
        return self._flat("vae", joined, plan, "diffusion_pytorch_model.safetensors")

    def _flat(
        self, kind: Kind, tensors: Tensors, plan: Plan | None = None, name: str = FLAT
    ) -> Converted:
        """One file of weights; where there is no plan, under the names they have."""
        done = Converted(kind, kind)
        told = self._told_by_peft() if kind == "lora" else {}
        if plan is None and self.source.suffix in SAFE and not told:
            # Its metadata say what it was trained on: kept as it is.
            shutil.copyfile(self.source, self.target / name)
            done.hashes[name] = _hash(self.target / name)
            return done
        plan = plan or _names_as_they_are(kind, tensors)
        way = (0, _bytes(tensors, plan), kind)
        done.hashes[name] = self._write(name, tensors, plan, way, told)
        return done

    def _told_by_peft(self) -> dict[str, str]:
        """The configuration beside an adapter of PEFT's, which alone says how strong it is: for the
        header, so that it stays with the numbers."""
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
        """What PEFT's `save_pretrained` writes."""
        there = [name for name in PEFT_WEIGHTS if name in names]
        if not there:
            raise CheckpointError(f"{self.source} has none of {', '.join(PEFT_WEIGHTS)}")
        return replace(self, source=self._inside(there[0]))._file()

    def _model_folder(self, names: list[str]) -> Converted:
        index = read_json(self._inside("model_index.json"))
        done = Converted("model", str(index.get("_class_name")))
        chosen = choose(names, half=False, suffixes=CONVERTIBLE)
        parts: dict[str, list[Path]] = {}
        for name in chosen:
            part, _, rest = name.partition("/")
            if rest.endswith(CONVERTIBLE):
                parts.setdefault(part, []).append(self._inside(name))
            elif rest and ".index" not in rest and rest not in ("config.json", "model_config.json"):
                self._copy_small(name)
        self._convert_parts(parts, done)
        if "safety_checker" in index and "safety_checker" not in parts:
            index["safety_checker"] = [None, None]
        for key in [key for key in index if key.startswith("_") and key != "_class_name"]:
            del index[key]
        write_json(self.target / "model_index.json", index)
        return done

    def _convert_parts(self, parts: dict[str, list[Path]], done: Converted) -> None:
        if _is_paddle(parts.get("safety_checker", [])):
            # No list of its keys is published, and it goes by other names than the text encoder.
            done.notes.append("Paddle's safety checker is left out")
            del parts["safety_checker"]
        total = sum(path.stat().st_size for files in parts.values() for path in files)
        before = 0
        for part, files in parts.items():
            tensors = _joined(files)
            plan = _plan(part, files, shapes_of_arrays(tensors))
            self._write_config(part, files, shapes_of(plan, shapes_of_arrays(tensors)))
            name = f"{part}/{stem(part)}.safetensors"
            done.hashes[name] = self._write(name, tensors, plan, (before, total, part))
            before += _bytes(tensors, plan)

    def _write_config(self, part: str, files: list[Path], shapes: Mapping[str, Shape]) -> None:
        path = self.source / part / "config.json"
        if part == "text_encoder" and _is_paddle(files) and not path.is_file():
            # paddlenlp has another file for it, with words of its own; the shapes say the same.
            config = clip_config(shapes, hidden_act="quick_gelu")
        else:
            config = read_json(self._inside(f"{part}/config.json"))
        write_json(self.target / part / "config.json", config)

    def _network_folder(self, names: list[str]) -> Converted:
        config = read_json(self._inside("config.json"))
        kind = CLASS_KINDS.get(str(config.get("_class_name")))
        if kind is None:
            raise CheckpointError(
                f"{self.source}/config.json is of {config.get('_class_name')!r}; "
                f"have {', '.join(CLASS_KINDS)}"
            )
        self._expect(kind)
        chosen = rendering(names, half=False, suffixes=CONVERTIBLE)
        files = [self._inside(name) for name in chosen if name.endswith(CONVERTIBLE)]
        if not files:
            raise CheckpointError(f"{self.source} holds no weights")
        tensors = _joined(files)
        write_json(self.target / "config.json", config)
        plan = _plan(kind, files, shapes_of_arrays(tensors))
        return self._flat(kind, tensors, plan, "diffusion_pytorch_model.safetensors")

    def _copy_small(self, name: str) -> None:
        path = self.target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._inside(name), path)

    def _inside(self, name: str) -> Path:
        """A file of the source folder; a link in it may lead no farther than `within`."""
        path = self.source / name
        root = (self.within or self.source).resolve()
        if not path.resolve().is_relative_to(root):
            raise Malformed(f"{name} is a link that leads out of {self.source.name}")
        return path


def _names_as_they_are(kind: Kind, tensors: Tensors) -> Plan:
    """An embedding of AUTOMATIC1111's web UI holds its word's number beside its vectors."""
    if kind == "embedding" and "string_to_param.*" in tensors:
        return {"emb_params": Part("string_to_param.*")}
    return {name: Part(name) for name in tensors}


def _plan(part: str, files: list[Path], shapes: Mapping[str, Shape]) -> Plan:
    return paddle_plan(shapes) if _is_paddle(files) else component_plan(part, shapes)


def _is_paddle(files: list[Path]) -> bool:
    return any(path.suffix in PADDLE for path in files)


def _joined(files: list[Path]) -> Tensors:
    """The tensors of all shards of a component."""
    tensors: Tensors = {}
    for path in files:
        for name, typed in read_weights(path).items():
            if name in tensors:
                raise Malformed(f"{path.name} holds {name}, which another shard holds too")
            tensors[name] = typed
    return tensors


def _bytes(tensors: Tensors, plan: Plan) -> int:
    """The bytes that a plan writes: every key of it but stacked ones feeds one parameter."""
    return sum(tensors[key].array.nbytes for key in {part.key for part in plan.values()})


def _buffers(tensors: Tensors) -> dict[str, float]:
    found = {mark: 1.0 for mark in MARKS if mark in tensors}
    scale = tensors.get(SCALE_FACTOR)
    if scale is not None and scale.array.size == 1 and scale.dtype != "BF16":
        found[SCALE_FACTOR] = float(scale.array.reshape(-1)[0])
    return found


def _copy_tokenizer(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.txt", "tokenizer_config.json"):
        if not (source / name).is_file():
            raise CheckpointError(f"{source} has no {name}")
        shutil.copyfile(source / name, target / name)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
