"""Reading of pickles as data: a machine for the opcodes that never calls anything.

Python's own unpickler looks up and calls every global that a file names. Here a global stays a
name, and a call becomes a record of it (`CallRecord`), which `torch_file` and `paddle_file` read. A
global that no checkpoint needs ends the reading at once: the file is refused, and the error names
it.

Opcodes: `pickletools` of the standard library, protocols 0 to 5. Bytes are slices of the mapped
file, so that a pickle of gigabytes is not copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from models.checkpoints.errors import ForbiddenGlobal, Malformed

Allowed = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Global:
    """A function or class by its name, never looked up."""

    name: str


@dataclass(frozen=True, slots=True)
class Persistent:
    """A reference to an object outside of the pickle, such as a torch storage."""

    id: Any


@dataclass(slots=True, eq=False)
class CallRecord:
    """A call in a pickle: the function's name and arguments, then the state and entries set."""

    function: Global
    args: tuple[Any, ...]
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pickle:
    """The content of one pickle: its value, its end in the file, and its outside references."""

    value: Any
    end: int
    outside: list[Persistent]


def short_repr(value: Any) -> str:
    """Return a short text for `value`, without the content of containers, which may be endless."""
    if isinstance(value, str | int | float | None):
        return repr(value)[:60]
    return value.name[:60] if isinstance(value, Global) else f"a {type(value).__name__}"


class _Mark:
    """The marker below a run of values on the stack."""


_MARK = _Mark()


def read_pickle(data: memoryview, allowed: Allowed, start: int = 0) -> Pickle:
    """Read the pickle at `start`.

    Raises ForbiddenGlobal for a global that is not `allowed`, Malformed for a damaged pickle.
    """
    machine = _Machine(data, allowed, start)
    try:
        return Pickle(machine.run(), machine.at, machine.outside)
    except (struct.error, IndexError, KeyError, TypeError, ValueError, UnicodeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise Malformed(f"it is no valid pickle, at byte {machine.at} ({what})") from error


class _Machine:
    """A stack, a memo, and a method for each group of opcodes."""

    def __init__(self, data: memoryview, allowed: Allowed, start: int) -> None:
        self.data = data
        self.allowed = allowed
        self.at = start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.outside: list[Persistent] = []

    def run(self) -> Any:
        while True:
            opcode = self.data[self.at]
            self.at += 1
            if opcode == ord("."):
                return self.stack.pop()
            operation = _OPERATIONS.get(opcode)
            if operation is None:
                raise Malformed(f"its pickle has opcode {chr(opcode)!r}, which no checkpoint needs")
            operation(self)

    # -- arguments of opcodes -------------------------------------------------------------------

    def take(self, count: int) -> memoryview:
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise Malformed(f"its pickle announces {count} bytes at {self.at}, which are not there")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, code: str) -> int:
        value: int = struct.unpack(code, self.take(struct.calcsize(code)))[0]
        return value

    def line(self) -> str:
        """Take a line of text, of 4096 bytes at most: a name or a number."""
        piece = bytes(self.data[self.at : self.at + 4096])
        end = piece.index(b"\n")
        self.at += end + 1
        return piece[:end].decode("utf-8")

    # -- the stack ------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise Malformed("its pickle ends a run that it never began")

    def name(self, module: str, name: str) -> None:
        full_name = f"{module}.{name}"
        if not self.allowed(full_name):
            raise ForbiddenGlobal(full_name)
        self.push(Global(full_name))

    def call(self, function: Any, args: Any) -> None:
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise Malformed("its pickle calls what is no name")
        self.push(CallRecord(function, args))

    def refer(self) -> None:
        self.outside.append(Persistent(self.stack.pop()))
        self.push(self.outside[-1])

    def set_entries(self, values: list[Any]) -> None:
        target = self.stack[-1]
        entries = target.entries if isinstance(target, CallRecord) else target
        if not isinstance(entries, dict):
            raise Malformed("its pickle puts entries into what is no dictionary")
        keys = values[::2]
        # The hash of a tuple recurses into its values, to any depth.
        if not all(isinstance(key, str | int | float | None | Global | CallRecord) for key in keys):
            raise Malformed("its pickle has a dictionary with keys that are no names")
        entries.update(zip(keys, values[1::2], strict=True))

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, CallRecord):
            target.entries.update(enumerate(values, len(target.entries)))
        elif isinstance(target, list):
            target.extend(values)
        else:
            raise Malformed("its pickle appends to what is no list")

    def build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], CallRecord):
            raise Malformed("its pickle sets the state of what it has not made")
        self.stack[-1].state = state


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda m: m.push(value)


def _plain(code: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.number(code))


def _text(length: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(str(m.take(m.number(length)), "utf-8", "surrogatepass"))


def _bytes(length: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.take(m.number(length)))


def _old_text(length: str) -> Callable[[_Machine], None]:
    """Return the operation for Python 2 strings, decoded so that `encode("latin-1")` is exact."""
    return lambda m: m.push(str(m.take(m.number(length)), "latin-1"))


def _long(length: str) -> Callable[[_Machine], None]:
    return lambda m: m.push(int.from_bytes(m.take(m.number(length)), "little", signed=True))


def _tuple(count: int) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        values = tuple(m.stack[-count:])
        if len(values) < count:
            raise Malformed("its pickle takes more values than it has")
        del m.stack[-count:]
        m.push(values)

    return operation


def _put(index: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        number = index(m)
        m.memo[number] = m.stack[-1]

    return operation


def _get(index: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.memo[index(m)])


def _dictionary(m: _Machine) -> None:
    values = m.since_mark()
    m.push({})
    m.set_entries(values)


def _protocol(m: _Machine) -> None:
    version = m.number("<B")
    if version > 5:
        raise Malformed(f"its pickle has protocol {version}; 5 is the last there is")


def _call(m: _Machine) -> None:
    args = m.stack.pop()
    m.call(m.stack.pop(), args)


def _call_with_keywords(m: _Machine) -> None:
    m.stack.pop()
    _call(m)


def _call_object(m: _Machine) -> None:
    function, *args = m.since_mark()
    m.call(function, tuple(args))


def _call_instance(m: _Machine) -> None:
    m.name(m.line(), m.line())
    function = m.stack.pop()
    m.call(function, tuple(m.since_mark()))


def _stack_global(m: _Machine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Malformed("its pickle names something by what is no text")
    m.name(module, name)


def _quoted(m: _Machine) -> None:
    text = m.line()
    m.push(text[1:-1] if text[:1] in ("'", '"') else text)


def _old_integer(m: _Machine) -> None:
    text = m.line()
    m.push({"00": False, "01": True}[text] if text in ("00", "01") else int(text))


_OPERATIONS: dict[int, Callable[[_Machine], Any]] = {
    ord(code): operation
    for code, operation in {
        # values
        "N": _constant(None),
        "\x88": _constant(True),
        "\x89": _constant(False),
        "K": _plain("<B"),
        "M": _plain("<H"),
        "J": _plain("<i"),
        "G": _plain(">d"),
        "\x8a": _long("<B"),
        "\x8b": _long("<i"),
        "X": _text("<I"),
        "\x8c": _text("<B"),
        "\x8d": _text("<Q"),
        "B": _bytes("<I"),
        "C": _bytes("<B"),
        "\x8e": _bytes("<Q"),
        "\x96": _bytes("<Q"),
        "T": _old_text("<i"),
        "U": _old_text("<B"),
        "I": _old_integer,
        "L": lambda m: m.push(int(m.line().rstrip("L"))),
        "F": lambda m: m.push(float(m.line())),
        "S": _quoted,
        "V": lambda m: m.push(m.line()),
        # containers
        "(": _constant(_MARK),
        ")": lambda m: m.push(()),
        "]": lambda m: m.push([]),
        "}": lambda m: m.push({}),
        "\x8f": lambda m: m.push([]),
        "t": lambda m: m.push(tuple(m.since_mark())),
        "l": lambda m: m.push(m.since_mark()),
        "\x91": lambda m: m.push(m.since_mark()),
        "d": _dictionary,
        "\x85": _tuple(1),
        "\x86": _tuple(2),
        "\x87": _tuple(3),
        "a": lambda m: m.extend([m.stack.pop()]),
        "e": lambda m: m.extend(m.since_mark()),
        "\x90": lambda m: m.extend(m.since_mark()),
        "s": lambda m: m.set_entries([m.stack.pop(-2), m.stack.pop()]),
        "u": lambda m: m.set_entries(m.since_mark()),
        # globals and calls
        "c": lambda m: m.name(m.line(), m.line()),
        "\x93": _stack_global,
        "R": _call,
        "\x81": _call,
        "\x92": _call_with_keywords,
        "o": _call_object,
        "i": _call_instance,
        "b": lambda m: m.build(),
        "Q": lambda m: m.refer(),
        # stack and memo
        "0": lambda m: m.stack.pop(),
        "1": lambda m: m.since_mark(),
        "2": lambda m: m.push(m.stack[-1]),
        "\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
        "q": _put(lambda m: m.number("<B")),
        "r": _put(lambda m: m.number("<I")),
        "p": _put(lambda m: int(m.line())),
        "h": _get(lambda m: m.number("<B")),
        "j": _get(lambda m: m.number("<I")),
        "g": _get(lambda m: int(m.line())),
        # frame
        "\x80": _protocol,
        "\x95": lambda m: m.number("<Q"),
    }.items()
}
