"""What training images go through: one description, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ntksap_export.errors import ConfigError

AUGMENTS: Final = ("none", "shift", "crop-flip", "resized-crop")
CROP_SCALE: Final = (0.08, 1.0)
CROP_RATIO: Final = (3 / 4, 4 / 3)

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What training images go through each time they are seen; draws depend on the seed, the epoch and the place.

    Args:
        kind: "none"; "shift": moved by at most S // 8 pixels, black moves in; "crop-flip": the same and mirrored half
            the time; "resized-crop": a part of the image enlarged to S x S and mirrored half the time (Szegedy et al.,
            CVPR 2015); "auto": what is usual for the data, see `resolve_augmentation`.
        cutout: side in pixels of a square that is set to the mean of the data (zero after normalization), its centre
            anywhere in the image; 0: none (DeVries & Taylor, arXiv 1708.04552).
        crop_scale: smallest and largest share of the area that "resized-crop" takes.
        crop_ratio: its smallest and largest width / height, log-uniform between.
        repeats: how often an image appears in an epoch, differently augmented and next to itself; an epoch keeps its
            length and holds that many times fewer images (Hoffer et al., CVPR 2020; Berman et al., arXiv 1902.05509).

    Raises:
        ConfigError: a value out of range, or one that the kind does not use.
    """

    kind: str = "auto"
    cutout: int = 0
    crop_scale: Span = CROP_SCALE
    crop_ratio: Span = CROP_RATIO
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.kind not in ("auto", *AUGMENTS):
            raise ConfigError(f"augment must be one of auto, {', '.join(AUGMENTS)}; got '{self.kind}'")
        if self.cutout < 0:
            raise ConfigError(f"cutout is a side in pixels, 0 for none; got {self.cutout}")
        if self.repeats < 1:
            raise ConfigError(f"repeats must be at least 1; got {self.repeats}. 3 is usual where images are repeated")
        _check_span("crop-scale", self.crop_scale, 1.0)
        _check_span("crop-ratio", self.crop_ratio, math.inf)
        if self.kind not in ("auto", "resized-crop") and (self.crop_scale, self.crop_ratio) != (CROP_SCALE, CROP_RATIO):
            raise ConfigError(f"crop-scale and crop-ratio belong to augment resized-crop; got augment {self.kind}")
        if self.kind == "none" and self.repeats > 1 and not self.cutout:
            raise ConfigError(f"repeats {self.repeats} with augment none shows the same image again; leave it away")


def _check_span(name: str, span: Span, limit: float) -> None:
    low, high = span
    if not (0 < low <= high <= limit and math.isfinite(high)):
        most = f" and at most {limit:g}" if math.isfinite(limit) else ""
        raise ConfigError(f"{name} must be two numbers above 0{most}, the smaller first; got {low:g},{high:g}")
