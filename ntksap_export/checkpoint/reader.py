"""Opens a checkpoint and reads what is asked for: one tensor of a large file costs that tensor."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ntksap_export.checkpoint import encodings
from ntksap_export.checkpoint.container import Container, open_container, within_memory
from ntksap_export.checkpoint.encodings import Decoded, Entry
from ntksap_export.checkpoint.names import claim_
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.shards import Index, index_of, is_sharded, read_index
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import naming, shown


@dataclass(frozen=True, slots=True)
class _File:
    """One open file, checked: its tensors are those of `entries`, each there once."""

    path: Path
    container: Container
    entries: Mapping[str, Entry]


class CheckpointReader:
    """An open checkpoint, of one file or several.

    Attributes:
        provenance: what was run; None for what was converted from elsewhere.
        entries: name -> how it is stored, in alphabetical order.
    """

    def __init__(self, files: Sequence[_File], provenance: Provenance | None) -> None:
        self.provenance = provenance
        self._files = {name: file for file in files for name in file.entries}
        self.entries: Mapping[str, Entry] = MappingProxyType(
            {name: self._files[name].entries[name] for name in sorted(self._files)}
        )

    def names(self) -> tuple[str, ...]:
        """Names of its tensors, sorted."""
        return tuple(self.entries)

    def read(self, name: str) -> Decoded:
        """One tensor, bit for bit, and where it is kept (None: not pruned).

        Raises:
            CheckpointError: there is no such tensor, memory does not hold it, or the file contradicts itself.
        """
        if name not in self.entries:
            raise CheckpointError(f"no tensor {shown(name)} in the checkpoint; it has {len(self.entries)} others")
        file = self._files[name]
        elements = f"tensor {shown(name)} of {self.entries[name].numel:,} elements"
        with naming(file.path), within_memory(elements):
            return encodings.decode(name, self.entries[name], file.container)

    def stored(self, name: str) -> tuple[str, int]:
        """How a tensor is stored, and its bytes as `stored_bytes` has them."""
        return self.entries[name].encoding, self.stored_bytes(name)

    def stored_bytes(self, name: str) -> int:
        """Bytes that the tensor's values take in the file, mask included, header excluded."""
        specs = self._files[name].container.specs
        return sum(specs[part].nbytes for part in encodings.entry_parts(name, self.entries[name]))


@contextmanager
def open_checkpoint(path: str | os.PathLike[str]) -> Iterator[CheckpointReader]:
    """Open the file at `path`, or the several files that its index names; tensors are read when asked for.

    Args:
        path: of a .safetensors file or a .safetensors.index.json.

    Raises:
        CheckpointError: a file is missing, foreign or damaged, or a newer version wrote it.
    """
    where = Path(path)
    with ExitStack() as stack:
        if not is_sharded(where):
            files = [_opened(where, stack, sharded=False)]
        else:
            with naming(index_of(where)):
                index = read_index(index_of(where))
            shards = [where.with_name(name) for name in sorted(set(index.files.values()))]
            files = [_opened(shard, stack, sharded=True) for shard in shards]
            with naming(index_of(where)):
                _check_shards(files, index)
        with naming(where):
            _check_names(files)
        with naming(files[0].path):
            told = files[0].container.document["provenance"]
            provenance = None if told is None else Provenance.from_json(told)
        yield CheckpointReader(files, provenance)


def _opened(path: Path, stack: ExitStack, sharded: bool) -> _File:
    with naming(path):
        container = stack.enter_context(open_container(path))
        return _File(path, container, _entries(container, sharded))


def _entries(container: Container, sharded: bool) -> dict[str, Entry]:
    """What the metadata lists, and every other tensor of the file as it is."""
    document = container.document
    if document.get("kind") == "mask":
        raise CheckpointError("a mask file, not a checkpoint; read it with load_mask")
    if set(document) - {"shard"} != {"schema", "tensors", "provenance"} or not isinstance(document["tensors"], dict):
        raise CheckpointError(f"its metadata must have schema, tensors and provenance; got {shown(sorted(document))}")
    if "shard" in document and not sharded:
        raise CheckpointError("is one of several files of a checkpoint; open its .safetensors.index.json")
    listed = {name: Entry.from_json(name, value) for name, value in document["tensors"].items()}
    owners = Counter(part for name, entry in listed.items() for part in encodings.entry_parts(name, entry))
    if twice := sorted(part for part, owning in owners.items() if owning > 1):
        raise CheckpointError(f"tensor {shown(twice[0])} belongs to two names; the file is damaged")
    if document["schema"] == 1:
        container.expect_only(set(owners))
    plain = {name: Entry("dense", spec.shape, "none") for name, spec in container.specs.items() if name not in owners}
    if both := sorted(plain.keys() & listed.keys()):
        raise CheckpointError(f"tensor {shown(both[0])} is there twice, as it is and encoded; the file is damaged")
    for part in owners:
        container.spec(part)
    return {**plain, **listed}


def _check_names(files: Sequence[_File]) -> None:
    # What could not be saved under these names again is not opened.
    taken: set[str] = set()
    for file in files:
        for name, entry in file.entries.items():
            claim_(taken, name, entry.mask != "none")


def _check_shards(files: Sequence[_File], index: Index) -> None:
    found = [(part, file.path.name) for file in files for part in file.container.specs]
    total = sum(spec.nbytes for file in files for spec in file.container.specs.values())
    if len(found) != len(index.files) or dict(found) != index.files or total != index.total_bytes:
        raise CheckpointError("its weight_map is not what the files hold; write the checkpoint again")
    owners = Counter(name for file in files for name in file.entries)
    if twice := sorted(name for name, owning in owners.items() if owning > 1):
        raise CheckpointError(f"tensor {shown(twice[0])} is in two files; write the checkpoint again")
    told = [file.container.document["provenance"] for file in files]
    if any(one != told[0] for one in told):
        raise CheckpointError("its files come from different runs; write the checkpoint again")
