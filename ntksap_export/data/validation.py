"""A few validation images of a source, without decoding the rest of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ntksap_export.data.augment import normalize
from ntksap_export.data.digits import open_digits
from ntksap_export.data.sources import find_source
from ntksap_export.data.spec import check_std, check_triple
from ntksap_export.data.stream import StreamSource


def read_validation(
    source: str, count: int, image_size: int, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """Normalized validation images, always the same, spread evenly over the source.

    Args:
        source: as for `open_data`.
        count: how many, at least 1; above the number of validation images they repeat.
        image_size: side in pixels.
        mean: of normalization, three numbers.
        std: likewise, above 0.

    Returns:
        float32 (count, 3, S, S) on the CPU.

    Raises:
        DataError: the source cannot be used, or an image cannot be decoded.
    """
    val = open_digits(image_size)[1] if source == "digits" else StreamSource(find_source(source).val, image_size, 0)
    total = len(val)
    chosen = [number * total // count if count <= total else number % total for number in range(count)]
    return normalize(val.take(chosen), check_triple("mean", mean), check_std(std))
