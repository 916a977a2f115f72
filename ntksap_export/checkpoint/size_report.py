"""What each tensor takes in the file, beside what it would take dense."""

from __future__ import annotations

from dataclasses import dataclass

from ntksap_export.checkpoint.container import dtype_name
from ntksap_export.checkpoint.encodings import Decoded, Entry


@dataclass(frozen=True, slots=True)
class SizeRow:
    """One tensor.

    Attributes:
        name: of the tensor.
        shape: its true shape.
        dtype: as torch writes it, without `torch.`.
        encoding: how it is stored, `dense` or `bitmask`.
        mask: `none` (not pruned), `full`, `nonzero` or `bitmask`.
        stored_bytes: of its values in the file, mask included, header excluded.
        dense_bytes: of all its elements.
        kept: elements that live; all of them where it is not pruned.
        total: elements.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    encoding: str
    mask: str
    stored_bytes: int
    dense_bytes: int
    kept: int
    total: int

    @classmethod
    def of(cls, name: str, entry: Entry, decoded: Decoded, stored_bytes: int) -> SizeRow:
        """The row of a tensor whose values, mask and entry are at hand."""
        tensor, kept = decoded.tensor, decoded.kept
        return cls(
            name=name,
            shape=entry.shape,
            dtype=dtype_name(tensor.dtype),
            encoding=entry.encoding,
            mask=entry.mask,
            stored_bytes=stored_bytes,
            dense_bytes=tensor.nbytes,
            kept=tensor.numel() if kept is None else int(kept.sum()),
            total=tensor.numel(),
        )


@dataclass(frozen=True, slots=True)
class SizeReport:
    """All tensors by name, with their sums. `kept` and `total` count only what a mask covers."""

    rows: tuple[SizeRow, ...]

    @property
    def stored_bytes(self) -> int:
        """Of all values in the file; the file adds its header."""
        return sum(row.stored_bytes for row in self.rows)

    @property
    def dense_bytes(self) -> int:
        """Of all elements."""
        return sum(row.dense_bytes for row in self.rows)

    @property
    def kept(self) -> int:
        """Prunable weights that live."""
        return sum(row.kept for row in self.rows if row.mask != "none")

    @property
    def total(self) -> int:
        """Prunable weights."""
        return sum(row.total for row in self.rows if row.mask != "none")
