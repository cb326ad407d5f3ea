"""Hostile files: each is refused with a reason, in little memory, and no code is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.checkpoints.convert.child_process import convert
from models.checkpoints.convert.conversion import Conversion
from models.checkpoints.convert.install import install
from models.checkpoints.convert.limits import ChildLimits
from models.checkpoints.convert.model_store import ModelStore
from models.checkpoints.errors import CheckpointError, CheckpointMissing, ForbiddenGlobal, Malformed
from models.checkpoints.files import shards, weight_files
from models.checkpoints.readers.headers import read_header
from models.checkpoints.readers.weights_file import read_weights
from tests.models.checkpoints.hostile import (
    PROTO2,
    PROTO4,
    STOP,
    archive,
    call,
    dictionary,
    entry,
    named,
    number,
    safetensors,
    saved,
    tensor,
    text,
)

ROOT = Path(__file__).parents[3]
MIB = 1 << 20
# The interpreter and numpy take 45 MiB; every file below is at most 1 MiB.
MAX_MEMORY = 96 * MIB

SYSTEM = call("os", "system", text("touch owned"))


# Runs the child and prints its peak memory in KiB, as measured by the kernel.
MEASURED = """
from models.checkpoints.convert.child import main
main()
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])
"""


def run_child(path: Path, **more: str) -> tuple[dict[str, Any], int]:
    """Return the child's last line for a file, and its peak memory in bytes. more: of the job."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here, which has the memory of a process")
    (path.parent / "target").mkdir()
    job = {
        "source": str(path),
        "target": str(path.parent / "target"),
        "kind": None,
        "tokenizer": None,
        "within": None,
        "limits": asdict(ChildLimits.for_input(path.stat().st_size)),
        **more,
    }
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED],
        input=json.dumps(job) + "\n",
        capture_output=True,
        env={"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        cwd=path.parent,
        text=True,
        check=True,
    )
    *_, answer, kibibytes = ran.stdout.splitlines()
    return json.loads(answer), int(kibibytes) * 1024


def refusal(path: Path, **more: str) -> str:
    """Return the refusal; check that no code ran, no file was written, and memory is small."""
    answer, peak = run_child(path, **more)
    assert peak < MAX_MEMORY
    assert not (path.parent / "owned").exists()
    assert list((path.parent / "target").iterdir()) == []
    return str(answer["refused"])


GLOBALS = {
    "instead of a tensor": (saved(dictionary({"w": SYSTEM})), "os.system"),
    "by another name": (saved(call("posix", "system", text("touch owned"))), "posix.system"),
    "eval": (saved(call("builtins", "eval", text("1"))), "builtins.eval"),
    "exec of Python 2": (saved(call("__builtin__", "exec", text("1"))), "__builtin__.exec"),
    "inside of a tensor's arguments": (
        saved(call("torch._utils", "_rebuild_tensor_v2", SYSTEM)),
        "os.system",
    ),
    "deep in dictionaries": (
        saved(dictionary({"a": dictionary({"b": dictionary({"c": SYSTEM})})})),
        "os.system",
    ),
    "as a key": (saved(b"}" + SYSTEM + number(1) + b"s"), "os.system"),
    "torch's own loader": (saved(named("torch.storage", "_load_from_bytes")), "_load_from_bytes"),
    "an attribute of an allowed global": (
        saved(named("collections", "OrderedDict.__init__.__globals__")),
        "OrderedDict.__init__.__globals__",
    ),
    "a method of a storage": (saved(named("torch", "FloatStorage.from_file")), "from_file"),
    "getattr": (saved(named("builtins", "getattr")), "builtins.getattr"),
    "from the stack": (PROTO4 + text("os") + text("system") + b"\x93" + STOP, "os.system"),
    "from the memo": (
        PROTO4 + text("os") + b"\x94" + text("system") + b"\x940" + b"0h\x00h\x01\x93" + STOP,
        "os.system",
    ),
    "as an instance": (b"(S'touch owned'\nios\nsystem\n.", "os.system"),
    "as an object": (saved(b"(" + named("subprocess", "Popen") + text("x") + b"o"), "Popen"),
    "built with NEWOBJ": (saved(named("subprocess", "Popen") + b")\x81"), "subprocess.Popen"),
    "in protocol 0": (b"cos\nsystem\n(S'touch owned'\ntR.", "os.system"),
    "numpy's loader": (saved(named("numpy", "load")), "numpy.load"),
    "runpy": (saved(named("runpy", "_run_code")), "runpy._run_code"),
}


@pytest.mark.parametrize("name", GLOBALS)
def test_pickle_with_a_forbidden_global_is_refused_by_name(name: str, tmp_path: Path) -> None:
    raw, forbidden = GLOBALS[name]
    for file in ("plain.bin", "model.pdparams"):
        (tmp_path / file).write_bytes(raw)
        with pytest.raises(ForbiddenGlobal) as refused:
            read_weights(tmp_path / file)
        assert forbidden in refused.value.name
    (tmp_path / "model.ckpt").write_bytes(archive(raw))
    with pytest.raises(ForbiddenGlobal) as refused:
        read_weights(tmp_path / "model.ckpt")
    assert forbidden in str(refused.value)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def test_torch_file_with_code_is_refused_in_the_child(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(3)}, "callbacks": Harmful()}, tmp_path / "x.ckpt")
    assert "asks for posix.system" in refusal(tmp_path / "x.ckpt")


def test_nothing_of_a_hostile_file_is_added(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(archive(saved(SYSTEM)))
    home = ModelStore(tmp_path / "home")
    with pytest.raises(CheckpointError, match=r"x\.ckpt: it asks for os\.system"):
        install(str(tmp_path / "x.ckpt"), home)
    assert list(home.root.iterdir()) == []
    assert not (tmp_path / "owned").exists()


PICKLES = {
    "an unknown opcode": (saved(b"\xf0"), "opcode"),
    "an extension": (saved(b"\x82\x01"), "opcode"),
    "a buffer from outside": (saved(b"\x97"), "opcode"),
    "a text persistent id": (saved(b"Pstorage\n"), "opcode"),
    "protocol 9": (b"\x80\x09N.", "protocol 9"),
    "bytes that are not there": (saved(b"B\xff\xff\xff\x7f"), "not there"),
    "a length below zero": (saved(b"\x8b\xfa\xff\xff\xff"), "not there"),
    "text that is no UTF-8": (saved(b"X\x02\x00\x00\x00\xff\xff"), "UnicodeDecodeError"),
    "a run without its beginning": (saved(b"N" + b"t"), "never began"),
    "a call of no global": (saved(b"N)R"), "calls what is no name"),
    "the state of no object": (saved(b"}}b"), "not made"),
    "a memo that is empty": (saved(b"h\x07"), "KeyError"),
    "an empty stack": (saved(b"0"), "IndexError"),
    "no end": (PROTO2 + b"N", "IndexError"),
    "keys that are lists": (saved(b"}]Ns"), "no names"),
    "keys that are tuples": (saved(b"})Ns"), "no names"),
    "nothing in it": (saved(b"}"), "no tensors"),
    "no dictionary": (saved(b"N"), "no dictionary"),
    "a number far too long": (saved(b"L" + b"9" * 4300 + b"\n"), "valid pickle"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_invalid_pickle_is_refused(name: str, tmp_path: Path) -> None:
    raw, reason = PICKLES[name]
    (tmp_path / "x.ckpt").write_bytes(archive(raw))
    with pytest.raises(Malformed, match=reason):
        read_weights(tmp_path / "x.ckpt")


HALF_A_MIB = 1 << 19
BOMBS = {
    # An index in the memo that would make an array of gigabytes.
    "a memo of two thousand million": saved(b"Nr\xff\xff\xff\x7f"),
    "half a million nested lists": saved(b"]" * HALF_A_MIB + b"a" * (HALF_A_MIB - 1)),
    "half a million nested tuples": saved(b")" + b"\x85" * HALF_A_MIB),
    "each list holds the last ten times": saved(
        b"]q\x00" + (b"](" + b"h\x00" * 10 + b"eq\x00") * 5000
    ),
    "lists that double": saved(b"]" + b"q\x00" + b"](h\x00h\x00eq\x000h\x00" * 10000),
    "a dictionary that holds itself": saved(b"}q\x00" + text("a") + b"h\x00s"),
    "dictionaries that share": saved(
        b"}q\x00" + (b"}(" + text("a") + b"h\x00" + text("b") + b"h\x00uq\x00") * 2000
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickle_bomb_is_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(archive(BOMBS[name]))
    assert "holds no" in refusal(tmp_path / "x.ckpt")


@pytest.mark.parametrize("name", ["half a million nested lists", "dictionaries that share"])
def test_pickle_bomb_is_checked_in_little_memory(name: str, tmp_path: Path) -> None:
    """`darkroom models check` reads a pickle in the same process, and writes only its outline."""
    (tmp_path / "x.ckpt").write_bytes(archive(BOMBS[name]))
    outline = str(tmp_path / "target/x.safetensors")
    assert "holds no" in refusal(tmp_path / "x.ckpt", outline=outline)


GIGA = 1_000_000_000
TENSORS = {
    "strides of zero": (tensor((GIGA,), (0,), count=4), "asks for 1000000000 elements"),
    "one stride of zero": (tensor((4, GIGA), (1, 0), count=4), "4000000000 elements"),
    "a storage that is not there": (tensor((4,), (1,), count=4, key="7"), "has no data/7"),
    "a storage of a path": (tensor((4,), (1,), count=4, key="../../etc/passwd"), "has no data/"),
    "a storage of more than is there": (tensor((GIGA,), (1,), count=GIGA), "its pickle says"),
    "past the end of its storage": (tensor((3,), (1,), count=4, offset=2), "up to 5"),
    "a row past the end": (tensor((2, 2), (3, 1), count=4), "up to 5"),
    "a negative stride": (tensor((4,), (-1,), count=4), "strides"),
    "a negative size": (tensor((-4, -1), (1, 1), count=4), "shape"),
    "sizes that overflow": (tensor((1 << 40, 1 << 40), (1, 1), count=4), "elements"),
    "an offset that overflows": (tensor((1,), (1,), count=4, offset=1 << 62), "offset"),
    "overlapping rows": (tensor((2, 2), (1, 1), count=4), "overlaps itself"),
    "fewer strides than sizes": (tensor((2, 2), (1,), count=4), "strides"),
    "of no dtype": (tensor((4,), (1,), count=4, kind="Size"), "storage of it holds"),
    "twice as many halves": (tensor((8,), (1,), count=16, kind="HalfStorage"), "pickle says 32"),
    "of quantised integers": (
        tensor((4,), (1,), count=4, kind="QInt8Storage"),
        "asks for torch.QInt8",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensor_outside_of_its_storage_is_refused(name: str, tmp_path: Path) -> None:
    raw, reason = TENSORS[name]
    path = tmp_path / "x.ckpt"
    path.write_bytes(archive(saved(dictionary({"w": raw}))))
    with pytest.raises(Malformed, match=reason):
        read_weights(path)


def test_tensor_of_a_thousand_million_elements_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(archive(saved(dictionary({"w": tensor((GIGA,), (0,), count=4)}))))
    assert "1000000000 elements" in refusal(path)


def test_thousand_tensors_of_one_storage_are_refused(tmp_path: Path) -> None:
    """A few tensors may share a storage; a thousand copies of a megabyte may not."""
    count = MIB // 4
    shared = dictionary({f"w{i}": tensor((count,), (1,), count=count) for i in range(1000)})
    path = tmp_path / "x.ckpt"
    path.write_bytes(archive(saved(shared), {"0": bytes(MIB)}))
    assert "would unfold to 1048576000 bytes" in refusal(path)


# -- zip archives -------------------------------------------------------------------------------

GOOD = saved(dictionary({"w": tensor((4,), (1,), count=4)}))


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, raw in members:
            target.writestr(name, raw)
    return file.getvalue()


def with_size(raw: bytes, size: int) -> bytes:
    """Set the size of the last member in the central directory."""
    at = raw.rindex(b"PK\x01\x02")
    return raw[: at + 20] + size.to_bytes(4, "little") * 2 + raw[at + 28 :]


def with_offset(raw: bytes, offset: int) -> bytes:
    """Set the offset of the last member in the central directory."""
    at = raw.rindex(b"PK\x01\x02")
    return raw[: at + 42] + offset.to_bytes(4, "little") + raw[at + 46 :]


PAIR = (("archive/data.pkl", GOOD), ("archive/data/0", bytes(16)))
ARCHIVES = {
    "compressed weights": (
        zipped(("a/data.pkl", GOOD), ("a/data/0", bytes(MIB)), method=zipfile.ZIP_DEFLATED),
        "compressed|unpack to",
    ),
    "a path out of it": (zipped(*PAIR, ("archive/../../etc/cron.d/x", b"")), "member named"),
    "an absolute path": (zipped(*PAIR, ("/etc/passwd", b"")), "folders|member named"),
    "a backslash": (zipped(*PAIR, ("archive/..\\x", b"")), "member named"),
    "a second folder": (zipped(*PAIR, ("other/data.pkl", GOOD)), "2 folders"),
    "no pickle": (zipped(("archive/data/0", bytes(16))), "without data.pkl"),
    "a size past the end": (with_size(zipped(*PAIR), 1 << 30), "would unpack to"),
    "a size a little past the end": (
        with_size(zipped(*PAIR), len(zipped(*PAIR)) - len(GOOD) - 9),
        "ends at",
    ),
    "a member that is another": (with_offset(zipped(*PAIR), 0), "same bytes|pickle says"),
    "a member at a wrong offset": (with_offset(zipped(*PAIR), 3), "not where"),
    "cut off": (zipped(*PAIR)[:-30], "damaged zip"),
    "the other byte order": (zipped(*PAIR, ("archive/byteorder", b"big")), "byte order"),
    "a text": (b"<!DOCTYPE html><html>Not found</html>", "begins with"),
    "a tar archive": (bytes(257) + b"ustar" + bytes(300), "tar archive"),
    "nothing": (b"", "cannot be read"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_unlike_those_of_torch_is_refused(name: str, tmp_path: Path) -> None:
    raw, reason = ARCHIVES[name]
    (tmp_path / "x.ckpt").write_bytes(raw)
    with pytest.raises(CheckpointError, match=reason):
        read_weights(tmp_path / "x.ckpt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_with_two_pickles_is_refused(tmp_path: Path) -> None:
    """Readers differ in the one that they use."""
    (tmp_path / "x.ckpt").write_bytes(zipped(*PAIR, ("archive/data.pkl", saved(SYSTEM))))
    with pytest.raises(Malformed, match=r"holds data\.pkl twice"):
        read_weights(tmp_path / "x.ckpt")


def test_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    raw = zipped(("a/data.pkl", bytes(300 * MIB)), method=zipfile.ZIP_DEFLATED)
    assert len(raw) < MIB
    (tmp_path / "x.ckpt").write_bytes(raw)
    assert "would unpack to 314572800 bytes" in refusal(tmp_path / "x.ckpt")


# -- safetensors --------------------------------------------------------------------------------

FOUR = entry("F32", [4], 0, 16)
HEADERS = {
    "no header": (b"", "no safetensors file"),
    "half a length": (b"\x10\x00\x00", "no safetensors file"),
    "a header longer than the file": (safetensors({}, length=1 << 40), "says its header has"),
    "a header longer than any": (safetensors(b" " * (17 * MIB)), "are the most"),
    "cut off in the header": (safetensors({"w": FOUR}, bytes(16))[:20], "says its header has"),
    "cut off in the weights": (safetensors({"w": FOUR}, bytes(15)), "end at"),
    "bytes after the weights": (safetensors({"w": FOUR}, bytes(17)), "end at"),
    "no JSON": (safetensors(b"{]"), "no JSON"),
    "a list": (safetensors([1]), "no JSON object"),
    "deep nesting": (safetensors(b"[" * 500_000), "no JSON"),
    "a key twice": (safetensors(b'{"w": 1, "w": 2}'), "twice"),
    "an invalid entry": (safetensors({"w": 7}), "not understood"),
    "an unknown type": (safetensors({"w": entry("F4", [4], 0, 16)}, bytes(16)), "not understood"),
    "a thousand million elements": (
        safetensors({"w": entry("F32", [GIGA], 0, 16)}, bytes(16)),
        "needs 4000000000",
    ),
    "a shape that overflows": (
        safetensors({"w": entry("F32", [1 << 62, 4], 0, 16)}, bytes(16)),
        "needs",
    ),
    "a negative size": (safetensors({"w": entry("F32", [-4], 0, 16)}, bytes(16)), "not all"),
    "a size that is a fraction": (safetensors({"w": entry("F32", [4.0], 0, 16)}), "not all sizes"),
    "an end before its beginning": (
        safetensors({"w": entry("F32", [4], 16, 0)}, bytes(16)),
        "-16 bytes",
    ),
    "overlapping tensors": (
        safetensors({"v": FOUR, "w": FOUR}, bytes(16)),
        "begins at",
    ),
    "a hole": (
        safetensors({"v": FOUR, "w": entry("F32", [4], 24, 40)}, bytes(40)),
        "begins at",
    ),
    "an end past the file": (
        safetensors({"w": entry("F32", [GIGA], 0, 4 * GIGA)}, bytes(16)),
        "end at",
    ),
    "metadata that are a list": (safetensors({"__metadata__": [1]}), "metadata"),
    "a pointer of git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_inconsistent_header_is_refused(name: str, tmp_path: Path) -> None:
    raw, reason = HEADERS[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    with pytest.raises(Malformed, match=reason):
        read_header(path)


def test_inconsistent_header_takes_no_memory_in_the_child(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(HEADERS["an end past the file"][0])
    assert "end at" in refusal(path)


# -- random damage, index files, links, limits --------------------------------------------------


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("intact") / "x.ckpt"
    weights = {"a.weight": torch.randn(3, 2), "b": torch.nn.Parameter(torch.randn(2)).half()}
    torch.save({"state_dict": weights, "epoch": 3}, path)
    return path.read_bytes()


@given(st.data())
def test_damaged_file_is_read_or_refused(
    intact: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    path = tmp_path_factory.mktemp("damaged") / "x.ckpt"
    path.write_bytes(raw[:cut] if data.draw(st.booleans()) else raw)
    try:
        tensors = read_weights(path)
    except CheckpointError:
        return
    assert all(typed.array.size <= len(raw) for typed in tensors.values())


@given(st.binary(max_size=60))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x.bin"
    path.write_bytes(b"\x80\x04" + raw)
    with pytest.raises(CheckpointError):
        read_weights(path)


def test_plain_data_is_read_in_every_protocol(tmp_path: Path) -> None:
    """The file is refused for its entries without arrays, not for its pickle."""
    value = {"a": [1, -(2**70), 2.5, None, True, b"x", "é", {"k": (1, 2, 3, 4)}], "b": {3}}
    for protocol in range(6):
        (tmp_path / "x.bin").write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(CheckpointError, match=r"is no array|begins with"):
            read_weights(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ({"weight_map": {"w": "../model.safetensors"}}, "files in the same folder"),
        ({"weight_map": {"w": "/etc/passwd.safetensors"}}, "files in the same folder"),
        ({"weight_map": {"w": "sub/model.safetensors"}}, "files in the same folder"),
        ({"weight_map": {"w": "..\\model.safetensors"}}, "files in the same folder"),
        ({"weight_map": {"w": "model.bin"}}, "files in the same folder"),
        ({"weight_map": {"w": ["model.safetensors"]}}, "files in the same folder"),
        ({"weight_map": ["model.safetensors"]}, "no weight_map"),
        ({"weight_map": {}}, "no weight_map"),
        ({}, "no weight_map"),
        ({"weight_map": {"w": "model-00001-of-00002.safetensors"}}, "is missing"),
    ],
)
def test_index_that_names_files_elsewhere_is_refused(
    index: Any, reason: str, tmp_path: Path
) -> None:
    folder = tmp_path / "unet"
    folder.mkdir()
    (tmp_path / "model.safetensors").write_bytes(safetensors({"w": FOUR}, bytes(16)))
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=reason):
        shards(path)
    with pytest.raises(CheckpointError, match=reason):
        weight_files(folder, half=False)


def test_link_out_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"key": 1}')
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (folder / "tokenizer" / "vocab.json").symlink_to(secret)
    home = ModelStore(tmp_path / "home")
    with pytest.raises(CheckpointError, match=r"vocab\.json is a link that leads out of model"):
        install(str(folder), home)
    assert home.names("model") == []


def test_child_is_stopped_at_its_memory_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(archive(saved(b"]" * (8 * MIB))))
    (tmp_path / "target").mkdir()
    tight = ChildLimits(memory_bytes=320 * MIB, cpu_s=60, wall_s=120, file_bytes=MIB)
    with pytest.raises(CheckpointError, match=r"more memory|status"):
        convert(Conversion(path, tmp_path / "target"), tight)


def test_child_is_stopped_at_its_time_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(archive(saved(b")0" * (12 * MIB))))
    (tmp_path / "target").mkdir()
    tight = ChildLimits(memory_bytes=1 << 30, cpu_s=1, wall_s=120, file_bytes=MIB)
    with pytest.raises(Malformed, match="status -"):
        convert(Conversion(path, tmp_path / "target"), tight)


def test_child_gets_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment that it is started with has none."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    started: list[dict[str, str]] = []
    real = subprocess.Popen

    def popen(*arguments: Any, **options: Any) -> Any:
        started.append(options["env"])
        return real(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(CheckpointMissing):
        convert(Conversion(tmp_path / "nothing.ckpt", tmp_path), ChildLimits(1 << 30, 10, 30, MIB))
    [environment] = started
    assert not any("secret" in value for value in environment.values())
    assert "PYTHONPATH" in environment
