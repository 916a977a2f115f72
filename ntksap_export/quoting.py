"""How a message quotes what was found: one short line, in which a file's content cannot steer a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ntksap_export.errors import CheckpointError


def shown(value: object) -> str:
    """`value` for a message: one line, at most 80 characters."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def first_line(error: BaseException) -> str:
    """What an error says, on one line of at most 200 characters."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0][:200])  # libraries quote files as is


def printable(text: str) -> str:
    """The text with a terminal's control codes, and whatever else would move its cursor, escaped."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


@contextmanager
def naming(where: object) -> Iterator[None]:
    """Put a file's name in front of every CheckpointError raised in the block."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
