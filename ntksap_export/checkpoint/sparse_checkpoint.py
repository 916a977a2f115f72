"""A pruned network on disk: kept values, where they stand, the dense rest, and where it all comes from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ntksap_export import atomic
from ntksap_export.checkpoint import encodings
from ntksap_export.checkpoint.bits import any_bit_set
from ntksap_export.checkpoint.container import DTYPES, Container, container_bytes, open_container, shown
from ntksap_export.checkpoint.encodings import Decoded, Encoded, Entry, bitmask
from ntksap_export.checkpoint.fit import check_memory, misfits
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.size_report import SizeReport, SizeRow
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask

_DOCUMENT_KEYS = {"schema", "tensors", "provenance"}
_STORABLE = frozenset(DTYPES.values())


@dataclass(frozen=True, slots=True, eq=False)
class SparseCheckpoint:
    """A model's whole state with its mask, checked when made: what exists can be saved and comes back.

    Attributes:
        tensors: name -> tensor, on the CPU and contiguous; parameters and buffers; every bit 0 where pruned.
        mask: on the CPU; its names are names of `tensors`.
        provenance: what was run.
    """

    tensors: Mapping[str, torch.Tensor]
    mask: Mask
    provenance: Provenance

    def __post_init__(self) -> None:
        """Bring tensors and mask to the CPU and check them.

        Raises:
            CheckpointError: mask and tensors do not fit, a pruned weight is not 0, a dtype cannot be stored,
                or two tensors would take one name in the file.
        """
        tensors = {name: _plain(name, tensor) for name, tensor in self.tensors.items()}
        mask = Mask({name: kept.cpu().contiguous() for name, kept in self.mask.items()})
        object.__setattr__(self, "tensors", MappingProxyType(tensors))
        object.__setattr__(self, "mask", mask)
        _check_mask(tensors, mask)
        _check_names(tensors, mask)

    @classmethod
    def of(cls, model: nn.Module, mask: Mask, provenance: Provenance) -> SparseCheckpoint:
        """Copy the state of `model`, with pruned weights set to exactly 0; the model is left untouched.

        Args:
            model: on any device; a pruned weight that goes by several names is pruned under each of them.
            mask: names parameters of `model`.
            provenance: what was run.

        Raises:
            CheckpointError: the mask does not fit the model, or its state holds what cannot be stored.
        """
        mask.check_fits(model)
        names_of: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names_of.setdefault(id(parameter), []).append(name)
        parameters = dict(model.named_parameters())
        pruned = {alias: ~mask[name].cpu() for name in mask for alias in names_of[id(parameters[name])]}
        tensors = {name: _plain(name, tensor).clone() for name, tensor in model.state_dict().items()}
        for name in pruned.keys() & tensors.keys():
            tensors[name].masked_fill_(pruned[name], 0)
        return cls(tensors, mask, provenance)

    def to_bytes(self) -> bytes:
        """The file's content. Equal checkpoints give equal bytes, in whatever order their names come."""
        parts: dict[str, torch.Tensor] = {}
        entries: dict[str, Any] = {}
        for name, encoded in self._encoded():
            parts.update(encoded.parts)
            entries[name] = encoded.entry.to_json()
        return container_bytes(parts, {"tensors": entries, "provenance": self.provenance.to_json()})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file to `path`, whole or not at all; its directory is made where missing.

        Raises:
            OSError: the disk is full or the directory cannot be written.
        """
        atomic.write_bytes(Path(path), self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparseCheckpoint:
        """Read what `save` wrote, bit for bit. Names come in alphabetical order; see `mask_for`.

        Raises:
            CheckpointError: the file is missing, foreign or damaged, or a newer version wrote it.
        """
        with open_container(Path(path)) as container:
            provenance, entries = _checked(container)
            decoded = {name: encodings.decode(name, entry, container) for name, entry in entries.items()}
            mask = {name: value.kept for name, value in decoded.items() if value.kept is not None}
            return cls({name: value.tensor for name, value in decoded.items()}, Mask(mask), provenance)

    def restore_(self, model: nn.Module, strict: bool = True) -> None:
        """Copy the stored state into `model`, in place; on an error it is left as it was.

        Args:
            model: on any device. Where its dtype differs, values are converted to the model's.
            strict: False skips names that only one side has. Shapes must agree either way.

        Raises:
            CheckpointError: lists what is missing, unexpected or mis-shaped.
        """
        state = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
        if faults := misfits(self.tensors, state, "checkpoint", strict):
            raise CheckpointError(
                f"checkpoint of {shown(self.provenance.architecture)} does not fit: {faults}; "
                "build the model with the checkpoint's architecture, width and class count"
            )
        check_memory(state)
        with torch.no_grad():
            for name in [name for name in state if name in self.tensors]:
                state[name].copy_(self.tensors[name])

    def mask_for(self, model: nn.Module) -> Mask:
        """The mask in the order of the model's parameters, so that its last weight is the classifier again.

        Raises:
            CheckpointError: the mask does not fit the model.
        """
        self.mask.check_fits(model)
        return Mask({name: self.mask[name] for name, _ in model.named_parameters() if name in self.mask})

    def size_report(self) -> SizeReport:
        """What each tensor takes in the file that `save` would write."""
        return SizeReport(
            tuple(
                SizeRow.of(name, encoded.entry, Decoded(self.tensors[name], self.mask.get(name)), encoded.nbytes)
                for name, encoded in self._encoded()
            )
        )

    def _encoded(self) -> Iterator[tuple[str, Encoded]]:
        for name in sorted(self.tensors):
            yield name, encodings.encode(name, self.tensors[name], self.mask.get(name))


def describe(path: str | os.PathLike[str]) -> SizeReport:
    """What each tensor takes in the file at `path`, checked as by `load`, one tensor at a time.

    Raises:
        CheckpointError: the file is missing, foreign or damaged.
    """
    with open_container(Path(path)) as container:
        rows = []
        for name, entry in _checked(container)[1].items():
            decoded = encodings.decode(name, entry, container)
            stored = sum(container.spec(part).nbytes for part in encodings.entry_parts(name, entry))
            rows.append(SizeRow.of(name, entry, decoded, stored))
        return SizeReport(tuple(rows))


def _checked(container: Container) -> tuple[Provenance, dict[str, Entry]]:
    document = container.document
    if document.get("kind") == "mask":
        raise CheckpointError("a mask file, not a checkpoint; read it with load_mask")
    if set(document) != _DOCUMENT_KEYS or not isinstance(document["tensors"], dict):
        raise CheckpointError(f"its metadata must have schema, tensors and provenance; got {shown(sorted(document))}")
    entries = {name: Entry.from_json(name, document["tensors"][name]) for name in sorted(document["tensors"])}
    owners = Counter(part for name, entry in entries.items() for part in encodings.entry_parts(name, entry))
    if twice := [part for part, owning in owners.items() if owning > 1]:
        raise CheckpointError(f"tensor {shown(twice[0])} belongs to two names; the file is damaged")
    container.expect_only(set(owners))
    return Provenance.from_json(document["provenance"]), entries


def _plain(name: str, tensor: object) -> torch.Tensor:
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_meta:
        raise CheckpointError(f"{shown(name)} is sparse, on meta or extra state; only dense tensors can be stored")
    if tensor.dtype not in _STORABLE:
        raise CheckpointError(f"{shown(name)} has dtype {tensor.dtype}, which cannot be stored; convert it first")
    return tensor.detach().cpu().contiguous()


def _check_mask(tensors: Mapping[str, torch.Tensor], mask: Mask) -> None:
    for name, kept in mask.items():
        if name not in tensors:
            raise CheckpointError(f"the mask has {shown(name)}, which the checkpoint has not")
        shape = tuple(tensors[name].shape)
        if tuple(kept.shape) != shape:
            raise CheckpointError(f"the mask's {shown(name)} has shape {tuple(kept.shape)}, the checkpoint's {shape}")
        if revived := int((any_bit_set(tensors[name]) & ~kept).sum()):
            raise CheckpointError(
                f"{revived} pruned weights of {shown(name)} are not exactly 0; use SparseCheckpoint.of"
            )


def _check_names(tensors: Mapping[str, torch.Tensor], mask: Mask) -> None:
    # Whatever the encoding will be: whether a checkpoint can be saved must not hang on how sparse it is.
    taken = Counter([*(name for name in tensors if name not in mask), "__metadata__"])
    taken.update(part for name in mask for part in (name, *bitmask.parts(name)))
    if twice := sorted(name for name, times in taken.items() if times > 1):
        raise CheckpointError(
            f"two tensors would be stored under the name {shown(twice[0])}: a pruned P.weight takes P.shape, "
            "P.compressed, P.bitmask and P.row_offsets; rename one"
        )
