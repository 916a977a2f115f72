"""From a foreign file's tensors to weights: wrappers' prefixes go, and masks that lie beside weights are folded in.

Two habits of keeping a mask are known:

    torch.nn.utils.prune:        NAME_orig and NAME_mask     NAME = NAME_orig * NAME_mask, any parameter
    SynFlow and NTK-SAP's code:  NAME and NAME_mask          NAME = NAME * NAME_mask, weights and biases

In the second every BatchNorm and bias has a mask of ones; a vector's mask of ones says nothing and is dropped there. A
pruned value becomes +0 whatever it was: -0.0 * 0 or NaN * 0 would not be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import torch

from ntksap_export.bit_patterns import patterns
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import naming, shown

PREFIXES: Final = ("module.", "_orig_mod.")  # of DataParallel, of torch.compile
_ORIG, _MASK = "_orig", "_mask"
_MASKED_IN_PLACE = ("weight", "bias")  # any other NAME_mask may be a tensor in its own right, as Swin's attn_mask is


class Stored(Protocol):
    """The tensors of a file under the names that they have there."""

    def names(self) -> Iterable[str]:
        """All of them, in any order."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without its values."""

    def read(self, name: str) -> torch.Tensor:
        """One tensor: dense, on the CPU, contiguous. CheckpointError where the file contradicts itself."""


@dataclass(frozen=True, slots=True)
class _Place:
    values: str
    mask: str | None = None


class FoldedSource:
    """A `Source` over the tensors of a foreign file."""

    provenance: Provenance | None = None

    def __init__(self, stored: Stored, where: str, strip: bool = True) -> None:
        """Find out which tensors are weights and which are masks on them.

        Args:
            stored: the file's tensors.
            where: what to call the file in a message.
            strip: take wrappers' prefixes away; False where it is known that the names are the tensors' own.

        Raises:
            CheckpointError: a mask has no weight or another shape than it, or one name stands for two tensors.
        """
        self._stored, self._where = stored, where
        with naming(where):
            self._places = _places(stored, strip)

    def names(self) -> tuple[str, ...]:
        """Without prefixes and masks, sorted."""
        return tuple(sorted(self._places))

    def read(self, name: str) -> Decoded:
        """One tensor, +0 where it is pruned."""
        with naming(self._where):
            return self._folded(name)

    def _folded(self, name: str) -> Decoded:
        place = self._places[name]
        values = self._stored.read(place.values)
        if place.mask is None:
            return Decoded(values, None)
        kept = _kept(name, self._stored.read(place.mask))
        if place.values == name_in_place(place.mask) and kept.dim() < 2 and bool(kept.all()):
            return Decoded(values, None)
        return Decoded(cleared(values, kept), kept)


def name_in_place(mask: str) -> str:
    """`fc.weight_mask` -> `fc.weight`."""
    return mask.removesuffix(_MASK)


def cleared(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """A copy of `values` with every bit 0 where not kept.

    Args:
        values: on the CPU, of any dtype of 1, 2, 4 or 8 bytes.
        kept: bool, of the same shape.
    """
    copy = values.contiguous().clone()
    patterns(copy)[~kept.contiguous().view(-1).numpy()] = 0
    return copy


def common_prefix(names: Iterable[str]) -> str:
    """What wrappers have put before every name, however deep they lie: `module._orig_mod.` say, or nothing."""
    rest, found = list(names), ""
    while prefix := next((one for one in PREFIXES if rest and all(name.startswith(one) for name in rest)), ""):
        rest, found = [name.removeprefix(prefix) for name in rest], found + prefix
    return found


def _places(stored: Stored, strip: bool) -> dict[str, _Place]:
    names = sorted(stored.names())
    prefix = common_prefix(names) if strip else ""
    known = {name.removeprefix(prefix) for name in names}
    places: dict[str, _Place] = {}
    mask: str | None
    for name in sorted(known):
        target, mask = name, None
        if name.endswith(_ORIG) and name.removesuffix(_ORIG) + _MASK in known:
            target, mask = name.removesuffix(_ORIG), name.removesuffix(_ORIG) + _MASK
        elif _is_mask(name, known):
            continue
        elif _masked_in_place(name) and name + _MASK in known:
            mask = name + _MASK
        if target in places or (target != name and target in known):
            raise CheckpointError(f"{shown(target)} is there beside {shown(target + _ORIG)}; which one counts?")
        places[target] = _Place(prefix + name, None if mask is None else prefix + mask)
    for target, place in places.items():
        if place.mask is not None:
            _check_shapes(target, stored.shape(place.values), stored.shape(place.mask))
    return places


def _masked_in_place(name: str) -> bool:
    return name.rpartition(".")[2] in _MASKED_IN_PLACE


def _is_mask(name: str, known: set[str]) -> bool:
    if not name.endswith(_MASK):
        return False
    plain = name_in_place(name)
    if plain + _ORIG in known:
        return True
    if not _masked_in_place(plain):
        return False
    if plain not in known:
        raise CheckpointError(f"{shown(name)} is a mask, and {shown(plain)}, its weight, is not there; save both")
    return True


def _check_shapes(name: str, values: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if values != mask:
        raise CheckpointError(f"{shown(name)} has shape {values}, its mask {mask}; they must be equal")


def _kept(name: str, mask: torch.Tensor) -> torch.Tensor:
    kept = mask != 0
    if not torch.equal(kept.to(mask.dtype), mask):
        other = mask[(mask != 0) & (mask != 1)].flatten()[0].item()
        raise CheckpointError(f"the mask of {shown(name)} must hold 0 and 1 only; got {other:g}. Round it before")
    return kept
