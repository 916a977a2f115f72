"""A few validation images of a source, without decoding the rest of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ntksap_export.data.augment import normalize
from ntksap_export.data.broken import BrokenImages
from ntksap_export.data.digits import open_digits
from ntksap_export.data.find import find_source
from ntksap_export.data.sources import Source
from ntksap_export.data.spec import check_std, check_triple
from ntksap_export.data.stream import StreamSource


def read_validation(
    source: str,
    count: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    data_dir: str | Path | None = None,
    broken_images: BrokenImages = "error",
) -> torch.Tensor:
    """Normalized validation images, always the same, spread evenly over the source.

    Args:
        source: as for `open_data`.
        count: how many, at least 1; above the number of validation images they repeat.
        image_size: side in pixels.
        mean: of normalization, three numbers.
        std: likewise, above 0.
        data_dir: where the data sets of the table lie, as for `open_data`.
        broken_images: as for `open_data`.

    Returns:
        float32 (count, 3, S, S) on the CPU.

    Raises:
        DataError: the source cannot be used, or an image cannot be decoded.
    """
    if source == "digits":
        val: Source = open_digits(image_size)[1]
    else:
        val = StreamSource(find_source(source, data_dir).val, image_size, skip=broken_images == "skip")
    total = len(val)
    chosen = [number * total // count if count <= total else number % total for number in range(count)]
    return normalize(val.take(chosen), check_triple("mean", mean), check_std(std))
