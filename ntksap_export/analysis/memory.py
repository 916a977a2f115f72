"""How much memory a tangent kernel takes, before anything is computed: what to hold at once so that it fits.

    7/5 * (copy of the network + images + kernel
           + size * columns * (sums * (N + 2 * images at once) + 2 * images at once)   rows of J, and those being made
           + size * images at once * (2 * saved + unfolded + 4 * largest parameter))   one step's passes

`size` is that of one element, `sums` the outputs whose rows are held at once; two fifths are what allocators keep and
libraries load (measured). Where all columns of J do not fit, the
network is differentiated several times, each time by a part of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from ntksap_export.analysis.differentiable import Differentiable, ImageCost
from ntksap_export.errors import ConfigError

Form = Literal["sum", "classes", "full"]

DEFAULT_BYTES: Final = 2 << 30
_MOST_PASSES: Final = 100  # more would take longer than anybody waits
_STEP_SHARE: Final = 4  # a step's passes get a quarter of the memory at most, where one image needs less
_MOST_AT_ONCE: Final = 16
_SLACK: Final = 1.4


@dataclass(frozen=True, slots=True)
class Estimate:
    """How a kernel is computed.

    Attributes:
        bytes: peak beyond what the process has already, on the model's device.
        images: differentiated at once.
        outputs: (weighted sums of) outputs whose rows are held at once.
        weights: columns of the Jacobian held at once.
        passes: parts of the weights; the network is differentiated once for each.
    """

    bytes: int
    images: int
    outputs: int
    weights: int
    passes: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def estimate(work: Differentiable, found: ImageCost, images: int, elements: int, form: Form, memory: int) -> Estimate:
    """The fastest way that stays within `memory` bytes.

    Args:
        work: the network.
        found: its footprint.
        images: of the kernel.
        elements: of one image.
        form: of the kernel.
        memory: bytes, on the model's device.

    Raises:
        ConfigError: nothing fits; says what would.
    """
    best: Estimate | None = None
    for at_once, sums in _ways(images, found.outputs, form):
        fixed, per_column = _costs(work, found, images, elements, form, at_once, sums)
        columns = min(work.columns, max(0, memory - fixed) // per_column)
        if columns * _MOST_PASSES < work.columns:
            continue
        step = work.dtype.itemsize * at_once * (2 * found.saved + found.unfolded + 4 * work.largest)
        way = Estimate(fixed + columns * per_column, at_once, sums, columns, -(-work.columns // columns))
        if way.passes == 1 and (step * _STEP_SHARE <= memory or at_once == 1):
            return way
        if best is None or way.passes < best.passes:
            best = way
    if best is not None:
        return best
    sums = found.outputs if form == "full" else 1
    fixed, per_column = _costs(work, found, images, elements, form, 1, sums)
    least = fixed + per_column * -(-work.columns // _MOST_PASSES)
    other = "" if form == "sum" else ", or take --form sum"
    raise ConfigError(
        f"the NTK of {images} images (form {form}) needs at least {amount(least)}; --memory allows {amount(memory)}. "
        f"Raise --memory, lower --images{other}"
    )


def kernel_shape(images: int, outputs: int, form: Form) -> tuple[int, ...]:
    """Of the kernel of `images` images and `outputs` logits."""
    shapes: dict[Form, tuple[int, ...]] = {
        "sum": (images, images),
        "classes": (outputs, images, images),
        "full": (images * outputs, images * outputs),
    }
    return shapes[form]


def amount(size: int) -> str:
    """A number of bytes, rounded up, as people read it."""
    unit, name = next((pair for pair in ((2**30, "GiB"), (2**20, "MiB")) if size >= pair[0]), (2**10, "KiB"))
    return f"{-(-size * 100 // unit) / 100:.4g} {name}"


def _ways(images: int, outputs: int, form: Form) -> Iterator[tuple[int, int]]:
    """(images at once, sums held at once), the fastest first."""
    at_once = min(images, _MOST_AT_ONCE)
    while at_once:
        sums = 1 if form == "sum" else outputs
        while sums:
            yield at_once, sums
            sums = sums // 2 if form == "classes" else 0
        at_once //= 2


def _costs(
    work: Differentiable, found: ImageCost, images: int, elements: int, form: Form, at_once: int, sums: int
) -> tuple[int, int]:
    """Bytes that the columns have no part in, and bytes of each column."""
    size, kernel = work.dtype.itemsize, 8
    for length in kernel_shape(images, found.outputs, form):
        kernel *= length
    step = at_once * (2 * found.saved + found.unfolded + 4 * work.largest)
    fixed = work.stored_bytes + kernel + size * (images * elements + step)
    per_column = size * (sums * (images + 2 * at_once) + 2 * at_once)
    return int(_SLACK * fixed), math.ceil(_SLACK * per_column)
