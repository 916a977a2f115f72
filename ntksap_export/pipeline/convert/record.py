"""What was converted from what: `.ntksap/convert/NAME.json` beside each output, by which a second run knows its work.

A record is believed only where the output still has the bytes it says; one that is missing or damaged means converting
again. Each output has its own, so that runs side by side do not meet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ntksap_export.atomic import write_json
from ntksap_export.checkpoint.digest import digest


@dataclass(frozen=True, slots=True)
class Record:
    """One conversion that was finished.

    Attributes:
        source: digest of what was read.
        options: what the output's bytes depend on beside it.
        version: of this package.
        files: names of the output's files, from the directory that it lies in.
        output: their digest.
        checked: every bit was compared.
        sparsity: 1 - density over masked tensors; None without masks.
    """

    source: str
    options: Mapping[str, Any]
    version: str
    files: tuple[str, ...]
    output: str
    checked: bool
    sparsity: float | None


def record_path(output: Path) -> Path:
    """Where the record of `output` lies."""
    return output.parent / ".ntksap" / "convert" / f"{output.name}.json"


def read_record(output: Path) -> Record | None:
    """The record of `output`; None where there is none, or none that can be read."""
    try:
        value = json.loads(record_path(output).read_text())
        record = Record(**{**value, "files": tuple(value["files"])})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    plain = all(isinstance(name, str) and ".." not in Path(name).parts for name in record.files)
    share = record.sparsity is None or isinstance(record.sparsity, int | float)
    return record if plain and record.files and share else None


def write_record(output: Path, record: Record) -> None:
    """Write it, whole or not at all."""
    write_json(record_path(output), asdict(record))


def output_files(output: Path, record: Record) -> tuple[Path, ...] | None:
    """The output's files, where they still are as recorded; else None."""
    files = tuple(output.parent / name for name in record.files)
    try:
        return files if digest(files) == record.output else None
    except (OSError, ValueError):
        return None
