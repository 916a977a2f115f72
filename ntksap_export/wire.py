"""An ONNX file by its outermost fields alone, without reading what is in them: a process that measures loads no onnx.

Protobuf's wire format: each field is a key (number << 3 | wire type) and a number, or a length and so many bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

# ModelProto's fields: number -> wire type (0 a number, 2 bytes)
_FIELDS: Final = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
GRAPH: Final = 7
_OPSETS: Final = 8
_DOMAIN: Final = 1
_LONGEST: Final = 1024  # bytes of an entry that names an opset


def model_fields(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Number and length of each outermost field of a model; the file then stands at the field's bytes.

    Raises:
        ValueError: they are not a model's, or go beyond the end.
    """
    while file.tell() < size:
        key = _varint(file)
        number, wire = key >> 3, key & 7
        if _FIELDS.get(number) != wire:
            raise ValueError("not a field of a model")
        length = _varint(file)
        if wire != 2:
            yield number, 0
            continue
        end = file.tell() + length
        if end > size:
            raise ValueError("a field goes beyond the end")
        yield number, length
        file.seek(end)


def opset_domains(source: Path | bytes) -> frozenset[str]:
    """The domains whose operators a model says it uses; none of what is no model, or not there."""
    try:
        if isinstance(source, bytes):
            return frozenset(_domains(io.BytesIO(source), len(source)))
        with source.open("rb") as file:
            return frozenset(_domains(file, source.stat().st_size))
    except (OSError, ValueError):
        return frozenset()


def _domains(file: BinaryIO, size: int) -> Iterator[str]:
    for number, length in model_fields(file, size):
        if number == _OPSETS and length <= _LONGEST:
            yield _domain(file.read(length))


def _domain(entry: bytes) -> str:
    """Of an OperatorSetIdProto: field 1 is the domain, field 2 the version; ONNX's own has none."""
    file = io.BytesIO(entry)
    while file.tell() < len(entry):
        key = _varint(file)
        value = _varint(file)
        if key & 7 == 2:
            text = file.read(value)
            if key >> 3 == _DOMAIN:
                return text.decode("utf-8", "replace")
    return ""


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("not a number")
