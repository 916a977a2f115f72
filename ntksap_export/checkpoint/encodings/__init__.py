"""Ways to put one tensor into the file, and the choice among them: the smallest that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch

from ntksap_export.checkpoint.container import Container
from ntksap_export.checkpoint.encodings import bitmask, bitmask_zstd, dense, gap, n_of_m, planes
from ntksap_export.checkpoint.encodings.encoding import Decoded, Encoded, Encoding, Entry, Packing, Subject
from ntksap_export.checkpoint.encodings.packed import Packed
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.quoting import shown

# A new encoding is one file and one line, and where it may be the smallest, its name in `_worth_trying`.
ENCODINGS: Final[Mapping[str, Encoding]] = {
    "dense": dense,
    "bitmask": bitmask,
    "planes": Packed("planes", planes),
    "bitmask-zstd": Packed("bitmask-zstd", bitmask_zstd),
    "n:m": Packed("n:m", n_of_m),
    "gap": Packed("gap", gap),
}
AUTO: Final = "auto"
_FEWEST_PLANED: Final = 4096  # bytes of a tensor below which planes save a few hundred at most, and cost time
_MOST_GAPS: Final = 1 / 3  # above this density gaps take more than bits, whatever the pattern

__all__ = [
    "AUTO",
    "ENCODINGS",
    "Decoded",
    "Encoded",
    "Encoding",
    "Entry",
    "Packing",
    "Subject",
    "check_encoding",
    "decode",
    "encode",
    "entry_parts",
]


def check_encoding(encoding: str) -> None:
    """Check the name of an encoding.

    Raises:
        ConfigError: it is neither `auto` nor in the table.
    """
    if encoding != AUTO and encoding not in ENCODINGS:
        raise ConfigError(f"encoding must be {AUTO} or one of {', '.join(ENCODINGS)}; got {shown(encoding)}")


def encode(name: str, tensor: torch.Tensor, kept: torch.Tensor | None, encoding: str = AUTO) -> Encoded:
    """Arrange one tensor for the file.

    Args:
        name: of the tensor.
        tensor: contiguous, on the CPU, all bits 0 where not kept.
        kept: bool of the same shape, or None where the tensor is not pruned.
        encoding: `auto` takes the one that adds the fewest bytes. One of `ENCODINGS` is taken where it applies, else
            `dense`, and where that would lose the mask, `bitmask`.
    """
    subject = Subject(name, tensor, kept)
    if encoding != AUTO:
        found = [ENCODINGS[key].encode(subject) for key in (encoding, "dense", "bitmask")]
        return next(encoded for encoded in found if encoded is not None)
    best: Encoded | None = None
    for key in _worth_trying(subject):
        if best is not None and key == "dense" and tensor.nbytes >= best.cost_bytes:
            continue  # to find whether it applies takes a pass over the tensor
        encoded = ENCODINGS[key].encode(subject)
        if encoded is not None and (best is None or encoded.cost_bytes <= best.cost_bytes):
            best = encoded
    assert best is not None
    return best


def _worth_trying(subject: Subject) -> tuple[str, ...]:
    """Encodings of which one may be the smallest; of two that take the same space the later one is chosen."""
    if not subject.packable:
        return ("bitmask", "dense")
    if subject.count == subject.total:
        return ("dense",) if subject.tensor.nbytes < _FEWEST_PLANED else ("planes", "dense")
    if subject.count > _MOST_GAPS * subject.total:
        return ("bitmask-zstd", "n:m", "dense")
    return ("gap", "bitmask-zstd", "n:m", "dense")


def decode(name: str, entry: Entry, container: Container) -> Decoded:
    """Read one tensor back.

    Raises:
        CheckpointError: the encoding is unknown, or the file contradicts itself.
    """
    return _known(name, entry).decode(name, entry, container)


def entry_parts(name: str, entry: Entry) -> tuple[str, ...]:
    """Names of the file's tensors that hold `name`.

    Raises:
        CheckpointError: the encoding is unknown.
    """
    return _known(name, entry).parts(name)


def _known(name: str, entry: Entry) -> Encoding:
    if entry.encoding not in ENCODINGS:
        raise CheckpointError(
            f"tensor {shown(name)} has the unknown encoding {shown(entry.encoding)} "
            f"(known: {', '.join(ENCODINGS)}); upgrade ntksap-export"
        )
    return ENCODINGS[entry.encoding]
