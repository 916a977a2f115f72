"""Read a pickle of plain values and one numpy array without running anything that it says.

A pickle is a program. Here its instructions are looked through first, and only those that build lists, dicts, texts,
numbers and arrays are let through; what it calls by name is answered by stand-ins that hold and check, so that no size
it claims is believed before the bytes are there.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from ntksap_export.errors import DataError

LIMIT_BYTES: Final = 400_000_000  # of a file; the largest of CIFAR has 155 MB
_INSTRUCTIONS: Final = frozenset((
    "PROTO", "FRAME", "MARK", "STOP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL", "STACK_GLOBAL",
    "REDUCE", "BUILD",
))  # fmt: skip


class _Kind:
    """Stands in for a numpy.dtype: unsigned bytes, or nothing we read."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in ("u1", b"u1", "|u1", b"|u1"):
            # No more of it than a short text: what is nested can print without end.
            shown = repr(code[:20]) if isinstance(code, str | bytes) else type(code).__name__
            raise pickle.UnpicklingError(f"an array of {shown}, not of bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and fields, which bytes do not have."""


class _Array:
    """Stands in for a numpy.ndarray; becomes one when shape and bytes agree."""

    value: npt.NDArray[np.uint8]

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, kind, by_columns, content = state
        if not (isinstance(shape, tuple) and isinstance(kind, _Kind) and isinstance(content, bytes)) or by_columns:
            raise pickle.UnpicklingError("an array of an unknown form")
        array = np.frombuffer(content, np.uint8)
        sides = [side for side in shape if isinstance(side, int) and side >= 0]
        if len(sides) != len(shape) or _product(sides) != len(array):
            raise pickle.UnpicklingError(f"{len(array)} bytes for an array of {len(shape)} axes of another size")
        self.value = array.reshape(sides)


def _product(sides: list[int]) -> int:
    total = 1
    for side in sides:
        total *= side
    return total


def _empty_array(kind: object, *_: object) -> _Array:
    if kind is not _Array:
        raise pickle.UnpicklingError("an array of an unknown class")
    return _Array()


_STAND_INS: Final[Mapping[tuple[str, str], Callable[..., object]]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
}
_SET_ITEM: Final[Callable[..., None]] = pickle._Unpickler.dispatch[pickle.SETITEM[0]]
_SET_ITEMS: Final[Callable[..., None]] = pickle._Unpickler.dispatch[pickle.SETITEMS[0]]


class _Reader(pickle._Unpickler):
    """The reader in Python, not the one in C: here what each instruction does can be looked at.

    Args:
        content: of the file.
    """

    stack: list[Any]

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._left = len(content)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._to_bytes
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return _STAND_INS[module, name]

    def _to_bytes(self, text: object, encoding: object) -> bytes:
        """How Python 3 writes bytes for Python 2; a text that is remembered could be made into bytes without end."""
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError("a text in an unknown encoding")
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("more bytes than the file has")
        return text.encode("latin1")

    def _set_item(self) -> None:
        self._check_keys(self.stack[-2:-1])
        _SET_ITEM(self)

    def _set_items(self) -> None:
        self._check_keys(self.stack[::2])
        _SET_ITEMS(self)

    def _check_keys(self, keys: list[object]) -> None:
        """Of nested tuples the hash can take forever, or the whole C stack."""
        if not all(isinstance(key, str | bytes) for key in keys):
            raise pickle.UnpicklingError("a key that is no text")

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
    }


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict in a pickle, with keys as text; arrays are uint8, texts of Python 2 are bytes.

    Raises:
        DataError: it is too large, damaged, no dict, or wants more than to hold values.
    """
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise DataError(f"'{path}' has {size:,} bytes, more than any file of its kind; fetch it again")
    content = path.read_bytes()
    try:
        _look_through(content)
        value = _Reader(content).load()
        if not isinstance(value, dict):
            raise pickle.UnpicklingError("no dict")
        return {_text(key): item.value if isinstance(item, _Array) else item for key, item in value.items()}
    except Exception as error:  # damaged pickles let out nearly every type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"'{path}' is damaged or not what its name says ({reason}); fetch it again") from error


def _look_through(content: bytes) -> None:
    for instruction, _, _ in pickletools.genops(content):
        if instruction.name not in _INSTRUCTIONS:
            raise pickle.UnpicklingError(f"the instruction {instruction.name}")


def _text(key: str | bytes) -> str:
    return key.decode("ascii") if isinstance(key, bytes) else key
