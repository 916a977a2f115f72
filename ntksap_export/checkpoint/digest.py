"""What a checkpoint's content is, in 64 characters, whether it lies in one file or in several."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(files: Sequence[Path]) -> str:
    """SHA-256 of one file; of several, that of their names and digests in the form of sha256sum, sorted by name."""
    if len(files) == 1:
        return file_digest(files[0])
    lines = [f"{file_digest(file)}  {file.name}\n" for file in sorted(files, key=lambda file: (file.name, str(file)))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
