"""How good the answers of two graphs are on labelled images, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ntksap_export.runtime.session import Images, Logits, Session

_EQUAL_DB: Final = 200.0  # stands for infinity, which is no JSON; float32 ends at about 150


@dataclass(frozen=True, slots=True)
class Judged:
    """One graph beside another over the same images.

    Attributes:
        images: how many.
        before: top-1 accuracy of the reference, in [0, 1].
        after: top-1 accuracy of the other.
        agreement: share of images with the same first answer.
        sqnr_db: 10 log10(sum of squared logits of the reference / sum of squared differences); 200 if equal.
    """

    images: int
    before: float
    after: float
    agreement: float
    sqnr_db: float

    @property
    def drop(self) -> float:
        """Points of accuracy that were lost; negative where some were won."""
        return 100 * (self.before - self.after)

    def to_json(self) -> dict[str, Any]:
        """As stored in parity.json."""
        return asdict(self)


def answers(session: Session, batches: Iterable[Images], advance: Callable[[int], None] | None = None) -> Logits:
    """The logits of all images, (N, classes); `advance` is told of each batch how many it had."""
    found = []
    for images in batches:
        found.append(session.run(images))
        if advance is not None:
            advance(len(images))
    return np.concatenate(found)


def judge(reference: Logits, other: Logits, labels: NDArray[np.int64]) -> Judged:
    """Compare the logits (N, classes) of two graphs."""
    first, second = reference.argmax(1), other.argmax(1)
    return Judged(
        images=len(labels),
        before=float((first == labels).mean()),
        after=float((second == labels).mean()),
        agreement=float((first == second).mean()),
        sqnr_db=sqnr_db(reference, other),
    )


def sqnr_db(reference: Logits, other: Logits) -> float:
    """Signal to quantization noise of the logits, in dB: 20 is a tenth of their size, 40 a hundredth."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(np.subtract(reference, other, dtype=np.float64)).sum())
    if noise == 0:
        return _EQUAL_DB
    if not signal or not np.isfinite(noise):
        return -_EQUAL_DB
    return float(np.clip(10 * np.log10(signal / noise), -_EQUAL_DB, _EQUAL_DB))
