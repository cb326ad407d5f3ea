"""Files of `torch.save`: a zip archive (since torch 1.6), or a sequence of pickles and storages.

archive/data.pkl        the pickle; tensors refer to storages by number
archive/data/0, 1, …    the storages, not compressed
archive/version, byteorder
"""

from __future__ import annotations

import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from models.checkpoints.errors import Malformed
from models.checkpoints.readers.arrays import NUMPY, Tensors
from models.checkpoints.readers.pickle_globals import is_allowed
from models.checkpoints.readers.pickles import Pickle, read_pickle
from models.checkpoints.readers.torch_tensors import Storage, read_tensors, storage

# Published files have less than 2 MB; the values take more than fifty times as much memory.
_MAX_PICKLE = 32 << 20
_LOCAL_HEADER = 30

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def is_zip(data: memoryview) -> bool:
    return bytes(data[:4]) == b"PK\x03\x04"


def is_old(data: memoryview) -> bool:
    """Return True for a file that begins with torch's magic number, pickled in protocol 2."""
    return bytes(data[:3]) == b"\x80\x02\x8a" and bytes(data[4:14]) == _MAGIC.to_bytes(10, "little")


def read_zip(path: Path, data: memoryview) -> Tensors:
    """Return the tensors of a torch archive that is mapped at `data`. Raises Malformed."""
    archive = _Archive.open(path, data)
    pickle = read_pickle(archive.member("data.pkl", _MAX_PICKLE), is_allowed)
    return read_tensors(pickle.value, archive.storage)


@dataclass(frozen=True)
class _Archive:
    """The members of a torch archive, by their names below its one folder."""

    data: memoryview
    members: dict[str, tuple[int, int]]

    @classmethod
    def open(cls, path: Path, data: memoryview) -> _Archive:
        with path.open("rb") as file:
            members = _members(file, data)
        archive = cls(data, members)
        if "data.pkl" not in members:
            raise Malformed("it is a zip archive without data.pkl: not a file of torch.save")
        order = bytes(archive.member("byteorder", 16)) if "byteorder" in members else b"little"
        if order != b"little":
            raise Malformed(f"its byte order is {order!r}: only little-endian files are read")
        return archive

    def member(self, name: str, most: int) -> memoryview:
        begin, end = self.members[name]
        if end - begin > most:
            raise Malformed(f"its {name} has {end - begin} bytes; {most} are the most")
        return self.data[begin:end]

    def storage(self, wanted: Storage) -> memoryview:
        """Return the bytes of a storage. Raises Malformed if their number is not the pickle's."""
        name = f"data/{wanted.key}"
        if name not in self.members:
            raise Malformed(f"it has no {name}, to which its pickle refers")
        begin, end = self.members[name]
        needs = wanted.count * np.dtype(NUMPY[wanted.dtype]).itemsize
        if end - begin != needs:
            raise Malformed(f"its {name} has {end - begin} bytes; its pickle says {needs}")
        return self.data[begin:end]


def _members(file: IO[bytes], data: memoryview) -> dict[str, tuple[int, int]]:
    """Return the first and last byte of each member in the file, without unpacking any.

    torch does not compress: a compressed member is an attack, and the sizes of all members
    together are at most the size of the file.

    Raises Malformed.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise Malformed(f"it is a damaged zip archive: {error}") from error
    if sum(info.file_size for info in infos) > len(data):
        total = sum(info.file_size for info in infos)
        raise Malformed(f"its members would unpack to {total} bytes; the file has {len(data)}")
    folders = {info.filename.split("/")[0] for info in infos}
    if len(folders) > 1:
        raise Malformed(f"it has {len(folders)} folders; a file of torch.save has one")
    members: dict[str, tuple[int, int]] = {}
    for info in infos:
        name = _member_name(info)
        if name in members:
            raise Malformed(f"it holds {name} twice")
        members[name] = _span(info, data)
    _refuse_overlaps(members)
    return members


def _member_name(info: zipfile.ZipInfo) -> str:
    name = info.filename.partition("/")[2]
    if not re.fullmatch(r"[.\w][\w.-]*(?:/[.\w][\w.-]*)*", name) or ".." in name:
        raise Malformed(f"it holds a member named {info.filename!r}")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise Malformed(
            f"its {name} is compressed, {info.compress_size} bytes to {info.file_size}: "
            "torch.save compresses nothing"
        )
    return name


def _span(info: zipfile.ZipInfo, data: memoryview) -> tuple[int, int]:
    """Return begin and end of a member, after its local header, which may be padded."""
    at = info.header_offset
    local = data[at : at + _LOCAL_HEADER]
    if len(local) < _LOCAL_HEADER or bytes(local[:4]) != b"PK\x03\x04":
        raise Malformed(f"its {info.filename} is not where the archive says")
    name, extra = struct.unpack("<HH", local[26:30])
    begin = at + _LOCAL_HEADER + name + extra
    end = begin + info.file_size
    if end > len(data):
        raise Malformed(f"its {info.filename} ends at {end}, the file at {len(data)}")
    return begin, end


def _refuse_overlaps(members: dict[str, tuple[int, int]]) -> None:
    last, owner = 0, ""
    for name, (begin, end) in sorted(members.items(), key=lambda item: item[1]):
        if begin < last:
            raise Malformed(f"its {name} and {owner} are the same bytes of the file")
        last, owner = end, name


def read_old(data: memoryview) -> Tensors:
    """Return the tensors of a file in the format before torch 1.6.

    It holds five pickles (a magic number, the protocol, the machine, the value, the keys of the
    storages), then each storage: its number of elements in 8 bytes, and the elements.

    Raises Malformed.
    """
    pickles: list[Pickle] = []
    for _ in range(5):
        pickles.append(read_pickle(data, is_allowed, pickles[-1].end if pickles else 0))
    magic, protocol, machine, saved, keys = (pickle.value for pickle in pickles)
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise Malformed(f"it is a file of torch.save of protocol {protocol!r}, not {_PROTOCOL}")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Malformed("it was written on a big-endian machine: only little-endian files are read")
    if not isinstance(keys, list):
        raise Malformed("its list of storages is damaged")
    stored = {found.key: found for found in (storage(p.id) for p in pickles[3].outside)}
    pieces = _old_pieces(data, pickles[4].end, keys, stored)
    return read_tensors(saved, lambda wanted: pieces[wanted.key])


def _old_pieces(
    data: memoryview, at: int, keys: list[Any], stored: dict[str, Storage]
) -> dict[str, memoryview]:
    """Return the bytes of each storage; they follow each other from `at`, in order of `keys`."""
    if set(keys) != set(stored) or len(keys) != len(stored):
        raise Malformed("its list of storages is not that of its pickle")
    pieces = {}
    for key in keys:
        wanted = stored[key]
        count = int.from_bytes(data[at : at + 8], "little")
        size = count * np.dtype(NUMPY[wanted.dtype]).itemsize
        if count != wanted.count or at + 8 + size > len(data):
            raise Malformed(f"its storage {key} has {count} elements at {at}; that does not fit")
        pieces[key] = data[at + 8 : at + 8 + size]
        at += 8 + size
    return pieces
