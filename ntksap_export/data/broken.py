"""`--broken-images skip`: an image that cannot be decoded is replaced by another of its class, and remembered.

The replacement is the next image of the class that can be decoded, in the order of the source and from its end on from
the beginning: batches keep their size and their labels, and a plan stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np

from ntksap_export.data.files import Labels
from ntksap_export.errors import DataError

BrokenImages = Literal["error", "skip"]
_SHOWN: Final = 3


def substitutes(labels: Labels, index: int) -> Iterator[int]:
    """Positions of the other images of the same class, beginning behind `index`."""
    alike = np.flatnonzero(labels == labels[index])
    place = int(np.searchsorted(alike, index))
    yield from np.concatenate((alike[place + 1 :], alike[:place])).tolist()


def none_left(label: int, first: str) -> DataError:
    """The error where a whole class is broken."""
    return DataError(f"no image of class {label} can be decoded; the first: {first}")


def skipped_text(skipped: Sequence[str]) -> str:
    """How many images were skipped, and the first few, in one line.

    Args:
        skipped: what was wrong with each; at least one.
    """
    more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    listed = "; ".join(message.partition("; ")[0] for message in skipped[:_SHOWN])
    return f"{len(skipped)} broken image(s) replaced by others of their class: {listed}{more}"
