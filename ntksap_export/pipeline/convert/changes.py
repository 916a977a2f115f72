"""What a conversion changes on the way, tensor by tensor: names, masks, tiny values, the dtype; in this order."""

from __future__ import annotations

import torch

from ntksap_export.bit_patterns import INTEGERS
from ntksap_export.checkpoint.container import dtype_name
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats.folding import cleared
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.pipeline.convert.options import DTYPES, ConvertOptions
from ntksap_export.quoting import shown


class _Through:
    """A source that gives what another gives."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.provenance: Provenance | None = source.provenance

    def names(self) -> tuple[str, ...]:
        return self._source.names()

    def read(self, name: str) -> Decoded:
        return self._source.read(name)


def changed(source: Source, options: ConvertOptions, masks: Source | None) -> Source:
    """`source` as the options want it.

    Args:
        source: open.
        options: what to change.
        masks: open, where `options.mask` names it; its masks replace those of `source`.

    Raises:
        CheckpointError: a name without the prefix, or a mask that has no tensor.
    """
    if options.prefix:
        source = _WithoutPrefix(source, options.prefix)
    if masks is not None:
        source = _Masked(source, masks)
    if options.threshold is not None:
        source = _AboveThreshold(source, options.threshold)
    return source if options.dtype is None else _Cast(source, DTYPES[options.dtype])


class _WithoutPrefix(_Through):
    def __init__(self, source: Source, prefix: str) -> None:
        super().__init__(source)
        self._prefix = prefix
        for name in source.names():
            if not name.startswith(prefix) or name == prefix:
                raise CheckpointError(
                    f"{shown(name)} does not begin with {shown(prefix)}; --prefix must fit every name"
                )

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(name.removeprefix(self._prefix) for name in self._source.names()))

    def read(self, name: str) -> Decoded:
        return self._source.read(self._prefix + name)


class _Masked(_Through):
    """Masks of another file in place of the source's own; a weight that they keep and the source pruned is a kept 0."""

    def __init__(self, source: Source, masks: Source) -> None:
        super().__init__(source)
        self._masks = masks
        self._masked = set(masks.names())
        if unknown := sorted(self._masked - set(source.names())):
            raise CheckpointError(f"--mask has {shown(unknown[0])}, which the checkpoint has not; is it of this model?")

    def read(self, name: str) -> Decoded:
        values = self._source.read(name).tensor
        if name not in self._masked or (kept := self._masks.read(name).kept) is None:
            return Decoded(values, None)
        if kept.shape != values.shape:
            raise CheckpointError(
                f"{shown(name)} has shape {tuple(values.shape)}, in --mask {tuple(kept.shape)}; is it of this model?"
            )
        return Decoded(cleared(values, kept), kept)


class _AboveThreshold(_Through):
    def __init__(self, source: Source, threshold: float) -> None:
        super().__init__(source)
        self._threshold = threshold

    def read(self, name: str) -> Decoded:
        decoded = self._source.read(name)
        values = decoded.tensor
        if values.dim() < 2 or not values.is_floating_point():
            return decoded
        wide = values if values.itemsize > 1 else values.float()  # torch compares no 8-bit floats
        kept = ~(wide.abs() < _ceiling(self._threshold, wide.dtype))  # a NaN is not below anything
        if decoded.kept is not None:
            kept &= decoded.kept
        return Decoded(cleared(values, kept), kept)


def _ceiling(threshold: float, dtype: torch.dtype) -> torch.Tensor:
    """The smallest number of `dtype` that is not below `threshold`: rounding it down would spare values below it."""
    rounded = torch.tensor(threshold, dtype=dtype)
    if float(rounded) >= threshold:
        return rounded
    return (rounded.view(INTEGERS[dtype.itemsize]) + 1).view(dtype)  # positive floats are ordered as their bits are


class _Cast(_Through):
    def __init__(self, source: Source, dtype: torch.dtype) -> None:
        super().__init__(source)
        self._dtype = dtype

    def read(self, name: str) -> Decoded:
        decoded = self._source.read(name)
        values = decoded.tensor
        if not values.is_floating_point() or values.dtype == self._dtype:
            return decoded
        cast = values.to(self._dtype)
        if over := int((cast.isinf() & ~_wide(values).isinf()).sum()):
            raise CheckpointError(
                f"{over} values of {shown(name)} overflow {dtype_name(self._dtype)}, the first is "
                f"{_first_over(values, cast):g}; take --dtype bfloat16 or float32"
            )
        return Decoded(cast, decoded.kept)


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values if values.itemsize > 1 else values.float()


def _first_over(values: torch.Tensor, cast: torch.Tensor) -> float:
    return float(_wide(values)[cast.isinf() & ~_wide(values).isinf()][0])


class Counted(_Through):
    """A source that counts what is kept, once for each tensor however often it is read."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._counts: dict[str, tuple[int, int]] = {}  # kept and all weights of the masked tensors

    @property
    def sparsity(self) -> float | None:
        """1 - kept / total over the masked tensors that were read; None where there was no mask."""
        total = sum(count for _, count in self._counts.values())
        return 1 - sum(kept for kept, _ in self._counts.values()) / total if total else None

    def read(self, name: str) -> Decoded:
        decoded = self._source.read(name)
        if decoded.kept is not None and name not in self._counts:
            self._counts[name] = (int(decoded.kept.sum()), decoded.kept.numel())
        return decoded
