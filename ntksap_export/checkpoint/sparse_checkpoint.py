"""A pruned network on disk: kept values, where they stand, the dense rest, and where it all comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import nn

from ntksap_export.checkpoint.container import within_memory
from ntksap_export.checkpoint.encodings import AUTO, Decoded, encode
from ntksap_export.checkpoint.fit import check_memory, misfits
from ntksap_export.checkpoint.names import claim_
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.reader import open_checkpoint
from ntksap_export.checkpoint.size_report import SizeReport, SizeRow
from ntksap_export.checkpoint.source import Source
from ntksap_export.checkpoint.write import checked, checkpoint_bytes, plain, write_checkpoint
from ntksap_export.errors import CheckpointError
from ntksap_export.masks import Mask
from ntksap_export.quoting import shown


@dataclass(frozen=True, slots=True, eq=False)
class SparseCheckpoint:
    """A model's whole state with its mask, checked when made: what exists can be saved and comes back.

    Attributes:
        tensors: name -> tensor, on the CPU and contiguous; parameters and buffers; every bit 0 where pruned.
        mask: on the CPU; its names are names of `tensors`.
        provenance: what was run; None where nobody knows, as of what was converted.
    """

    tensors: Mapping[str, torch.Tensor]
    mask: Mask
    provenance: Provenance | None

    def __post_init__(self) -> None:
        """Bring tensors and mask to the CPU and check them.

        Raises:
            CheckpointError: mask and tensors do not fit, a pruned weight is not 0, a dtype cannot be stored,
                or two tensors would take one name in the file.
        """
        for name in self.mask:
            if name not in self.tensors:
                raise CheckpointError(f"the mask has {shown(name)}, which the checkpoint has not")
        taken: set[str] = set()
        for name in sorted(self.tensors):
            claim_(taken, name, name in self.mask)
        found = {name: checked(name, Decoded(value, self.mask.get(name))) for name, value in self.tensors.items()}
        kept = {name: found[name][1] for name in self.mask}
        object.__setattr__(self, "tensors", MappingProxyType({name: tensor for name, (tensor, _) in found.items()}))
        object.__setattr__(self, "mask", Mask({name: where for name, where in kept.items() if where is not None}))

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
        tensors = {name: plain(name, tensor).clone() for name, tensor in model.state_dict().items()}
        for name in pruned.keys() & tensors.keys():
            tensors[name].masked_fill_(pruned[name], 0)
        return cls(tensors, mask, provenance)

    def names(self) -> tuple[str, ...]:
        """Names of its tensors, sorted; with `read` this is what `write_checkpoint` takes."""
        return tuple(sorted(self.tensors))

    def read(self, name: str) -> Decoded:
        """One tensor and where it is kept (None: not pruned)."""
        return Decoded(self.tensors[name], self.mask.get(name))

    def to_bytes(self, encoding: str = AUTO) -> bytes:
        """The file's content. Equal checkpoints give equal bytes, in whatever order their names come."""
        return checkpoint_bytes(self, self.provenance, encoding)

    def save(self, path: str | os.PathLike[str], encoding: str = AUTO, max_shard_bytes: int | None = None) -> None:
        """Write a safetensors file to `path`, whole or not at all; see `write_checkpoint`."""
        write_checkpoint(path, self, self.provenance, encoding, max_shard_bytes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparseCheckpoint:
        """Read what `save` wrote, bit for bit. Names come in alphabetical order; see `mask_for`.

        Raises:
            CheckpointError: a file is missing, foreign or damaged, or a newer version wrote it.
        """
        with open_checkpoint(path) as reader, within_memory(f"{path}: it"):
            return cls.of_source(reader)

    @classmethod
    def of_source(cls, source: Source) -> SparseCheckpoint:
        """All tensors of an open checkpoint of any format, in memory.

        Raises:
            CheckpointError: it contradicts itself, or holds what a `SparseCheckpoint` may not.
        """
        decoded = {name: source.read(name) for name in source.names()}
        mask = {name: value.kept for name, value in decoded.items() if value.kept is not None}
        return cls({name: value.tensor for name, value in decoded.items()}, Mask(mask), source.provenance)

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
                f"checkpoint{self._origin()} does not fit: {faults}; "
                "build the model with the checkpoint's architecture, width and class count"
            )
        check_memory(state)
        with torch.no_grad():
            for name in [name for name in state if name in self.tensors]:
                state[name].copy_(self.tensors[name])

    def _origin(self) -> str:
        return "" if self.provenance is None else f" of {shown(self.provenance.architecture)}"

    def mask_for(self, model: nn.Module) -> Mask:
        """The mask in the order of the model's parameters, so that its last weight is the classifier again.

        Raises:
            CheckpointError: the mask does not fit the model.
        """
        self.mask.check_fits(model)
        return Mask({name: self.mask[name] for name, _ in model.named_parameters() if name in self.mask})

    def size_report(self) -> SizeReport:
        """What each tensor takes in the file that `save` would write."""
        rows = []
        for name in self.names():
            encoded = encode(name, self.tensors[name], self.mask.get(name))
            rows.append(SizeRow.of(name, encoded.entry, self.read(name), encoded.nbytes))
        return SizeReport(tuple(rows))


def describe(path: str | os.PathLike[str]) -> SizeReport:
    """What each tensor takes in the file at `path`, checked as by `load`, one tensor at a time.

    Raises:
        CheckpointError: the file is missing, foreign or damaged.
    """
    with open_checkpoint(path) as reader, within_memory(f"{path}: it"):
        return SizeReport(
            tuple(
                SizeRow.of(name, entry, reader.read(name), reader.stored_bytes(name))
                for name, entry in reader.entries.items()
            )
        )
