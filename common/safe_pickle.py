"""Reads pickled arrays, dictionaries, lists, text and numbers without running what a pickle says.

A pickle is a program, and Python's own reader runs it: loading a stranger's file means running a stranger's
code. Limiting which names that reader may look up does not suffice: a few bytes still make it take gigabytes,
or crash. So this is a small interpreter that knows only the instructions that the field's files need.
Everything else is refused by name, and every size is checked against the bytes that are really there before
memory is taken for it.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from common.errors import DataError

MAX_INSTRUCTIONS = 2_000_000  # The real Human3.6M files need some thirty thousand.
MAX_DEPTH = 32
MAX_NDIM = 32

TRUNCATED = "truncated: it has fewer bytes than it claims"
AGAIN = "get the file again from a source you trust"


class UnsafeFileError(DataError, ValueError):
    """An npz file is damaged, is something else, or holds what the field's files have no need of."""


def require(condition: bool, problem: str) -> None:
    if not condition:
        raise UnsafeFileError(f"{problem}; {AGAIN}")


def shown(text: str) -> str:
    """A name out of the file, fit for one line of a terminal."""
    return text[:100] if text[:100].isprintable() else ascii(text[:100])


def check_size(shape: Any, dtype: np.dtype, size: int) -> None:
    """Refuses a shape that is none, or that needs other than ``size`` bytes."""
    valid = type(shape) is tuple and len(shape) <= MAX_NDIM and all(type(n) is int and n >= 0 for n in shape)
    # Without its zeros too, as numpy computes strides from the other lengths.
    valid = valid and 0 < math.prod(n or 1 for n in shape) * dtype.itemsize < 2**48
    require(valid, "an array of impossible shape or type")
    if math.prod(shape) * dtype.itemsize != size:
        wanted = f"{shape} of {dtype}: {math.prod(shape) * dtype.itemsize:,} bytes"
        require(False, f"its shape {wanted} does not fit the {size:,} bytes that it has")


# What pickled arrays are made of. Arguments come from the file: nothing about them is known.


class _Type:
    """A dtype under construction: pickles name it first and state its byte order afterwards."""

    def __init__(self, text: Any, align: Any, copy: Any) -> None:
        if not (type(text) is str and re.fullmatch(r"[biufcSU][0-9]{1,9}|O[48]?", text)):
            raise refused(f"elements of type {shown(text) if type(text) is str else type(text).__name__}")
        self.dtype = np.dtype(text)

    def set_state(self, state: Any) -> None:
        # Version, byte order, subarray, field names, fields, then sizes and flags that the name implies.
        valid = type(state) is tuple and len(state) == 8 and state[2:5] == (None, None, None)
        if not (valid and type(state[1]) is str and state[1] in ("<", ">", "|", "=")):
            raise refused("a structured or otherwise unusual dtype")
        self.dtype = self.dtype.newbyteorder(state[1])  # type: ignore[arg-type]


class _Global:
    """A name that pickled arrays use, and what stands in for it here."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def refused(what: str) -> UnsafeFileError:
    return UnsafeFileError(f"refused {what}: pickled poses need no such thing; nothing was run; {AGAIN}")


def _plain(dtype: Any) -> np.dtype:
    if type(dtype) is not _Type or dtype.dtype.hasobject:
        raise refused("an array of Python objects inside the object")
    return dtype.dtype


def _as_bytes(data: Any) -> bytes | bytearray:
    data = data.encode("latin-1") if type(data) is str else data  # Bytes of Python 2.
    require(type(data) in (bytes, bytearray), f"array data of type {type(data).__name__}")
    return data


def _encode(text: Any, codec: Any) -> bytes:
    require(type(text) is str and type(codec) is str, "bytes that are no text")
    if codec not in ("latin1", "latin-1"):
        raise refused(f"bytes in the codec {shown(codec)}")
    return text.encode("latin-1")


def _reconstruct(subtype: Any, shape: Any, code: Any) -> np.ndarray:
    empty = type(shape) is tuple and len(shape) == 1 and type(shape[0]) is int and shape[0] == 0
    plain = subtype is _NDARRAY and type(code) in (bytes, str) and len(code) == 1
    if not (empty and plain):
        raise refused("an array that is not numpy.ndarray")
    return np.empty(0, np.int8)


def _scalar(dtype: Any, data: Any) -> np.generic:
    data = _as_bytes(data)
    check_size((), _plain(dtype), len(data))
    return np.frombuffer(data, dtype.dtype)[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    require(type(data) in (bytes, bytearray), f"array data of type {type(data).__name__}")
    require(type(order) is str and order in ("C", "F", "K"), "an array of unknown order")
    check_size(shape, _plain(dtype), len(data))
    array: np.ndarray = np.ndarray(shape, dtype.dtype, data, order="F" if order == "F" else "C")
    return array if axes is None else array.transpose(axes)


def _ndarray(*_: Any) -> None:
    raise refused("a call of numpy.ndarray")


_NDARRAY = _Global(_ndarray)
_GLOBALS = {
    "numpy.ndarray": _NDARRAY,
    "numpy.dtype": _Global(_Type),
    "_codecs.encode": _Global(_encode),
    "__builtin__.bytes": _Global(lambda: b""),  # Protocol 2 has no other way to write empty bytes.
    **{f"numpy.{core}.multiarray._reconstruct": _Global(_reconstruct) for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _Global(_scalar) for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _Global(_frombuffer) for core in ("core", "_core")},
}

_U8, _U16, _U32, _U64, _I32, _F64 = map(struct.Struct, ("<B", "<H", "<I", "<Q", "<i", ">d"))


class Pickle:
    """Interpreter of the pickle instructions that the field's files need (pickletools describes them all).

    Args:
        stream: Open at the first instruction.
        left: Bytes that the stream still has.
        instructions: One item for each instruction that all pickles of the file together may still run.
    """

    def __init__(self, stream: io.BufferedIOBase, left: int, instructions: Iterator[int]) -> None:
        self.stream = stream
        self.instructions = instructions
        self.end = stream.tell() + left
        # A pickler writes every payload once: whoever asks for more copies than that builds a bomb.
        self.copies_left = 2 * left
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.holder: tuple[Any, Any] = (None, None)  # The one object array, and the object in it.

    def load(self) -> Any:
        """Runs to the end and returns the object that the pickled 0-d object array holds."""
        for count, _ in enumerate(self.instructions, start=1):
            code = self.stream.read(1)
            if code == b".":
                break
            if code not in _INSTRUCTIONS:
                raise refused(_instruction_name(code)) if code else UnsafeFileError(f"{TRUNCATED}; {AGAIN}")
            method, argument = _INSTRUCTIONS[code]
            method(self, argument)
        else:
            raise refused(f"more than {MAX_INSTRUCTIONS:,} pickle instructions")
        array, value = self.holder
        valid = array is not None and len(self.stack) == 1 and self.stack[0] is array
        require(valid, "the pickle is not that of a 0-d object array")
        _check_tree(value, 2 * count)
        return value

    def check_left(self, size: int) -> None:
        left = self.end - self.stream.tell()
        require(0 <= size <= left, f"it asks for {size:,} bytes where {left:,} are left")

    def take(self, size: int) -> bytes:
        if not 0 <= size <= io.DEFAULT_BUFFER_SIZE:  # A look at the position costs more than a small read.
            self.check_left(size)
        data = self.stream.read(size)
        require(len(data) == size, TRUNCATED)
        return data

    def charge(self, size: int) -> None:
        self.copies_left -= size
        require(self.copies_left >= 0, "it unfolds to far more than it holds")

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.stream.read(layout.size))[0]

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # Instructions: each takes the argument that the table below gives.

    def protocol(self, _: None) -> None:
        require(self.number(_U8) <= 5, "a pickle of an unknown protocol")

    def frame(self, _: None) -> None:
        self.check_left(self.number(_U64))  # Frames only help a reader to plan ahead, and this one does not.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_number(self, layout: struct.Struct) -> None:
        self.stack.append(self.number(layout))

    def push_long(self, _: None) -> None:
        size = self.number(_U8)
        require(size <= 8, "an integer of more than 64 bits")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def push_digits(self, _: None) -> None:
        self.stack.append(int(self.line()))

    def push_text(self, layout_and_codec: tuple[struct.Struct, str]) -> None:
        layout, codec = layout_and_codec
        self.stack.append(self.take(self.number(layout)).decode(codec, "surrogatepass"))

    def push_bytes(self, layout_and_type: tuple[struct.Struct, Callable[[bytes], Any]]) -> None:
        layout, kind = layout_and_type
        self.stack.append(kind(self.take(self.number(layout))))

    def push_new(self, kind: type) -> None:
        self.stack.append(kind())

    def tuple_of(self, count: int) -> None:
        require(len(self.stack) >= count, "a tuple of nothing")
        start = len(self.stack) - count
        self.stack[start:] = [tuple(self.stack[start:])]

    def mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def tuple_since_mark(self, _: None) -> None:
        self.stack.append(tuple(self.since_mark()))

    def append(self, many: bool) -> None:
        items = self.since_mark() if many else [self.stack.pop()]
        require(type(self.stack[-1]) is list, "items for what is no list")
        self.stack[-1].extend(items)

    def set_items(self, many: bool) -> None:
        items = self.since_mark() if many else [self.stack.pop(-2), self.stack.pop()]
        require(type(self.stack[-1]) is dict and len(items) % 2 == 0, "items for what is no dictionary")
        # Hashing other keys can be made slow, or, for tuples deep inside tuples, crash Python.
        require({str, int}.issuperset(map(type, items[::2])), "a dictionary key that is no text or integer")
        self.stack[-1].update(zip(items[::2], items[1::2]))

    def put(self, layout: struct.Struct | None) -> None:
        self.memo[self.number(layout) if layout else len(self.memo)] = self.stack[-1]

    def get(self, layout: struct.Struct) -> None:
        self.stack.append(self.memo[self.number(layout)])

    def push_global(self, stacked: bool) -> None:
        if stacked:
            name, module = self.stack.pop(), self.stack.pop()
            require(type(name) is str and type(module) is str, "a name that is no text")
        else:
            module, name = self.line(), self.line()
        full = f"{module}.{name}"
        if full not in _GLOBALS:
            raise refused(shown(full))
        self.stack.append(_GLOBALS[full])

    def line(self) -> str:
        data = self.stream.readline(200)
        require(data.endswith(b"\n"), "a name without an end")
        return data[:-1].decode()

    def reduce(self, _: None) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        require(type(called) is _Global and type(arguments) is tuple, "a call of what is no function")
        made = called.call(*arguments)
        self.charge(len(made) if type(made) is bytes else made.nbytes if isinstance(made, np.generic) else 0)
        self.stack.append(made)

    def build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is _Type:
            target.set_state(state)
            return
        valid = type(target) is np.ndarray and type(state) is tuple and len(state) == 5
        require(valid, "state for what has none")
        _, shape, dtype, fortran, data = state
        require(type(dtype) is _Type and type(fortran) in (bool, int), "an array without a type")
        if dtype.dtype.hasobject:
            # Object arrays inside object arrays would overflow the stack when they are freed.
            if self.holder[0] is not None:
                raise refused("an array of Python objects inside the object")
            valid = type(shape) is tuple and not shape and type(data) is list and len(data) == 1
            require(valid, "an object array that holds not one object")
            self.holder = (target, data[0])
            return
        data = _as_bytes(data)
        check_size(shape, dtype.dtype, len(data))
        self.charge(len(data))
        target.__setstate__((1, shape, dtype.dtype, bool(fortran), bytes(data)))  # type: ignore[attr-defined]


_Instruction = tuple[Callable[[Pickle, Any], None], Any]
_INSTRUCTIONS: dict[bytes, _Instruction] = {
    b"\x80": (Pickle.protocol, None),
    b"\x95": (Pickle.frame, None),
    b"N": (Pickle.push, None),
    b"\x88": (Pickle.push, True),
    b"\x89": (Pickle.push, False),
    b")": (Pickle.push, ()),
    b"K": (Pickle.push_number, _U8),
    b"M": (Pickle.push_number, _U16),
    b"J": (Pickle.push_number, _I32),
    b"G": (Pickle.push_number, _F64),
    b"\x8a": (Pickle.push_long, None),
    b"I": (Pickle.push_digits, None),  # Python 2, beyond 32 bits.
    b"\x8c": (Pickle.push_text, (_U8, "utf-8")),
    b"X": (Pickle.push_text, (_U32, "utf-8")),
    b"\x8d": (Pickle.push_text, (_U64, "utf-8")),
    b"U": (Pickle.push_text, (_U8, "latin-1")),
    b"T": (Pickle.push_text, (_I32, "latin-1")),
    b"C": (Pickle.push_bytes, (_U8, bytes)),
    b"B": (Pickle.push_bytes, (_U32, bytes)),
    b"\x8e": (Pickle.push_bytes, (_U64, bytes)),
    b"\x96": (Pickle.push_bytes, (_U64, bytearray)),
    b"]": (Pickle.push_new, list),
    b"}": (Pickle.push_new, dict),
    b"\x85": (Pickle.tuple_of, 1),
    b"\x86": (Pickle.tuple_of, 2),
    b"\x87": (Pickle.tuple_of, 3),
    b"(": (Pickle.mark, None),
    b"t": (Pickle.tuple_since_mark, None),
    b"a": (Pickle.append, False),
    b"e": (Pickle.append, True),
    b"s": (Pickle.set_items, False),
    b"u": (Pickle.set_items, True),
    b"q": (Pickle.put, _U8),
    b"r": (Pickle.put, _U32),
    b"\x94": (Pickle.put, None),
    b"h": (Pickle.get, _U8),
    b"j": (Pickle.get, _U32),
    b"c": (Pickle.push_global, False),
    b"i": (Pickle.push_global, False),  # INST, to refuse its class by name.
    b"\x93": (Pickle.push_global, True),
    b"R": (Pickle.reduce, None),
    b"b": (Pickle.build, None),
}


def _instruction_name(code: bytes) -> str:
    import pickletools

    known = {op.code: op.name for op in pickletools.opcodes}
    return f"the pickle instruction {known.get(code.decode('latin-1'), code.hex())}"


def _check_tree(root: Any, most: int) -> None:
    """Refuses a result that holds anything but data, or itself, or that unfolds to over ``most`` items."""
    pending, count = [iter([root])], 0
    while pending:
        require(len(pending) <= MAX_DEPTH, "lists or dictionaries too deeply nested, or inside themselves")
        for value in pending[-1]:
            count += 1
            require(count <= most, "it unfolds to far more than it holds")
            if type(value) in (list, tuple, dict):
                pending.append(iter(value.values() if type(value) is dict else value))
                break
            if type(value) not in (str, bytes, bytearray, int, float, bool, type(None), np.ndarray):
                require(isinstance(value, np.generic), "a name or a type where data is expected")
        else:
            pending.pop()
