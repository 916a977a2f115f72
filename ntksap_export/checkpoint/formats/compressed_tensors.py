"""A folder as compressed-tensors writes it up to 0.14: config.json beside model.safetensors or its shards.

`config.json` says under `quantization_config.sparsity_config.format` how the pruned tensors are stored
(`bitmask_parts`). Read are all three formats, of any writer; a mask there is what is not zero. Ours writes one file and

  - stores what the mask keeps, so that a kept 0.0 and a -0.0 stay;
  - stores a weight of more than two axes as a matrix (out, the rest), since that package packs every row of every
    kernel by itself, which takes up to 2.4 times the dense bytes. Its own reader gives that matrix back;
  - notes true names and shapes, and the provenance, under the key `ntksap` of config.json. That package calls every
    pruned tensor `P.weight`, also one that goes by `P` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from ntksap_export import atomic
from ntksap_export.checkpoint.bits import matrix_shape
from ntksap_export.checkpoint.container import DTYPES, Container, Spec, dtype_name, shape_from_json
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import bitmask_parts
from ntksap_export.checkpoint.formats.bitmask_parts import BITMASK, BITMASK_24, PARTS
from ntksap_export.checkpoint.formats.files import read_json
from ntksap_export.checkpoint.formats.folder import WEIGHTS_FILE, open_parts
from ntksap_export.checkpoint.formats.stream import write_safetensors
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import naming, shown

CONFIG_FILE: Final = "config.json"
_VERSION: Final = "0.14.0"  # the layout's
_SCHEMA: Final = 1
_STORABLE: Final = frozenset(DTYPES.values())


def matches(path: Path) -> bool:
    """Whether `path` is a folder whose config.json was written by compressed-tensors."""
    try:
        quantization = read_json(path / CONFIG_FILE).get("quantization_config")
    except CheckpointError:
        return False
    return isinstance(quantization, dict) and (
        quantization.get("quant_method") == "compressed-tensors"
        or isinstance(quantization.get("sparsity_config"), dict)
    )


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open the folder; a tensor is read, and believed, when it is asked for.

    Raises:
        CheckpointError: it is no such folder, its weights are quantized, or names and parts contradict each other.
    """
    config = read_json(path / CONFIG_FILE)
    with naming(path / CONFIG_FILE):
        layout = _layout(config)
        notes = _Notes.from_json(config.get("ntksap"))
    with open_parts(path) as container:
        with naming(path):
            prefixes = _prefixes(set(container.specs), layout, notes.shapes)
            if unknown := sorted(notes.whole - (container.specs.keys() - prefixes.keys())):
                raise CheckpointError(f"config.json says that {shown(unknown[0])} is kept whole, which is not there")
        yield _Folder(path, container, layout, prefixes, notes)


def write(path: Path, source: Source, provenance: Provenance | None, *, two_four: bool = False) -> None:
    """Write a folder to `path`, where nothing is yet; each tensor is read twice, and one is in memory at a time.

    Args:
        path: of the new folder.
        source: what to write.
        provenance: goes into config.json, where there is any.
        two_four: `sparse-24-bitmask`, for masks that keep exactly 2 of every 4 weights of a row (out, the rest), or all
            of a layer, which is then stored dense.

    Raises:
        CheckpointError: a mask is neither where that is asked for, or names or dtypes that the format cannot hold.
        OSError: the disk is full or the directory cannot be written.
    """
    layout = BITMASK_24 if two_four else BITMASK
    specs: dict[str, Spec] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    whole: list[str] = []
    kept = total = 0
    for name in source.names():
        parts, stored, shape, masked = _planned(name, layout, source.read(name))
        if clash := sorted(parts.keys() & specs.keys() | parts.keys() & {"__metadata__"}):
            raise CheckpointError(f"two tensors would be stored under the name {shown(clash[0])}; rename one")
        specs.update(parts)
        if shape is not None:
            shapes[name] = shape
            kept, total = kept + stored, total + math.prod(shape)
        elif masked:
            whole.append(name)
    path.mkdir(parents=True)
    # transformers loads no file that does not say so
    write_safetensors(path / WEIGHTS_FILE, specs, _parts(source, layout), {"format": "pt"})
    sparsity = 1 - kept / total if total else 0.0
    atomic.write_json(path / CONFIG_FILE, _config(layout, sparsity, _noted(shapes, whole, provenance)))


@dataclass(frozen=True, slots=True)
class _Notes:
    """What config.json holds of ours: shapes of the pruned tensors by their true names, and where they come from.

    `whole` are those stored dense whose mask keeps everything.
    """

    shapes: Mapping[str, tuple[int, ...]]
    whole: frozenset[str]
    provenance: Provenance | None

    @classmethod
    def from_json(cls, value: Any) -> _Notes:
        if value is None:
            return cls({}, frozenset(), None)
        if not isinstance(value, dict) or not isinstance(value.get("shapes"), dict):
            raise CheckpointError(f"its 'ntksap' must be an object with shapes; got {shown(value)}")
        if value.get("schema") != _SCHEMA:
            raise CheckpointError(f"its 'ntksap' has schema {shown(value.get('schema'))}, known is {_SCHEMA}; upgrade")
        shapes = {name: shape_from_json(shape) for name, shape in value["shapes"].items()}
        whole = value.get("whole", [])
        if not isinstance(whole, list) or not all(isinstance(name, str) for name in whole):
            raise CheckpointError(f"its 'ntksap' must have a list of names as 'whole'; got {shown(whole)}")
        found = value.get("provenance")
        return cls(shapes, frozenset(whole), None if found is None else Provenance.from_json(found))


class _Folder:
    """An open folder."""

    def __init__(
        self, path: Path, container: Container, layout: str, prefixes: Mapping[str, str], notes: _Notes
    ) -> None:
        self._path, self._container, self._layout, self._prefixes, self._notes = (
            path,
            container,
            layout,
            prefixes,
            notes,
        )
        parts = {f"{prefix}.{suffix}" for prefix in prefixes.values() for suffix in PARTS[layout]}
        self._names = tuple(sorted((container.specs.keys() - parts) | prefixes.keys()))
        self.provenance = notes.provenance

    def names(self) -> tuple[str, ...]:
        return self._names

    def read(self, name: str) -> Decoded:
        with naming(self._path):
            if name not in self._prefixes:
                tensor = self._container.read(name)
                return Decoded(tensor, torch.ones_like(tensor, dtype=torch.bool) if name in self._notes.whole else None)
            value = bitmask_parts.decode(self._prefixes[name], self._layout, self._container)
            assert value.kept is not None
            stored = tuple(value.tensor.shape)
            shape = self._notes.shapes.get(name, stored)
            if _stored_shape(shape, self._layout) != stored and shape != stored:
                raise CheckpointError(f"tensor {shown(name)} is stored as {stored}, config.json notes {shape}")
            return Decoded(value.tensor.reshape(shape), value.kept.reshape(shape))

    def stored(self, name: str) -> tuple[str, int]:
        """How a tensor is stored, and its bytes in the folder."""
        specs = self._container.specs
        if name not in self._prefixes:
            return bitmask_parts.DENSE, specs[name].nbytes
        parts = (f"{self._prefixes[name]}.{suffix}" for suffix in PARTS[self._layout])
        return self._layout, sum(specs[part].nbytes for part in parts)


def _layout(config: Mapping[str, Any]) -> str:
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        raise CheckpointError("has no quantization_config; is it a folder of compressed-tensors?")
    if quantization.get("config_groups"):
        raise CheckpointError("its weights are quantized, which is not read; decompress it with compressed-tensors")
    sparsity = quantization.get("sparsity_config") or {"format": bitmask_parts.DENSE}
    layout = sparsity.get("format") if isinstance(sparsity, dict) else sparsity
    if not isinstance(layout, str) or layout not in PARTS:
        raise CheckpointError(f"sparsity_config.format must be one of {', '.join(PARTS)}; got {shown(layout)}")
    return layout


def _prefixes(parts: set[str], layout: str, shapes: Mapping[str, object]) -> dict[str, str]:
    # Each name of a pruned tensor, and what its parts begin with: by that package's rule any part makes one.
    found = {bitmask_parts.prefix_of(part, layout) for part in parts}
    names: dict[str, str] = {}
    for prefix in sorted(prefix for prefix in found if prefix is not None):
        for suffix in PARTS[layout]:
            if f"{prefix}.{suffix}" not in parts:
                raise CheckpointError(f"tensor {shown(f'{prefix}.{suffix}')} is missing; write the folder again")
        weight = f"{prefix}.weight"
        name = prefix if prefix in shapes and weight not in shapes else weight
        if name in parts:
            raise CheckpointError(f"tensor {shown(name)} is stored twice, plain and in parts; write the folder again")
        names[name] = prefix
    if surplus := sorted(shapes.keys() - names.keys()):
        raise CheckpointError(f"config.json notes a shape of {shown(surplus[0])}, which is not there")
    return names


def _planned(name: str, layout: str, value: Decoded) -> tuple[dict[str, Spec], int, tuple[int, ...] | None, bool]:
    # The parts of one tensor, how many of its values are stored, its shape where it is pruned, whether it has a mask.
    dtype, shape = value.tensor.dtype, tuple(value.tensor.shape)
    if dtype not in _STORABLE:
        raise CheckpointError(f"{shown(name)} has dtype {dtype_name(dtype)}, which cannot be stored; convert it first")
    if value.kept is None or _is_whole(layout, value):
        if bitmask_parts.prefix_of(name, layout) is not None:
            raise CheckpointError(f"{shown(name)} would be taken for a part of a pruned tensor there; rename it")
        return {name: Spec(dtype, shape)}, 0, None, value.kept is not None
    stored = _stored_shape(shape, layout)
    if layout == BITMASK_24 and (stored[-1] % 4 or not bitmask_parts.is_two_four(value.kept)):
        raise CheckpointError(
            f"{shown(name)} {shape} does not keep exactly 2 of every 4 weights of a row, nor all; "
            f"write {BITMASK}, which holds any mask"
        )
    kept = int(value.kept.sum())
    return bitmask_parts.part_specs(_prefix(name), layout, dtype, stored, kept), kept, shape, True


def _is_whole(layout: str, value: Decoded) -> bool:
    # 2:4 has no way to keep a whole layer, as one often does with the first and the last
    return layout == BITMASK_24 and value.kept is not None and bool(value.kept.all())


def _parts(source: Source, layout: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name in source.names():
        value = source.read(name)
        if value.kept is None or _is_whole(layout, value):
            yield name, value.tensor
        else:
            stored = _stored_shape(tuple(value.tensor.shape), layout)
            yield from bitmask_parts.arrange(_prefix(name), layout, stored, value).items()


def _stored_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    return shape if len(shape) == 1 and layout == BITMASK else matrix_shape(shape)


def _prefix(name: str) -> str:
    return name.removesuffix(".weight")


def _noted(
    shapes: Mapping[str, tuple[int, ...]], whole: Sequence[str], provenance: Provenance | None
) -> dict[str, Any]:
    notes: dict[str, Any] = {"schema": _SCHEMA, "shapes": {name: list(shape) for name, shape in shapes.items()}}
    if whole:
        notes["whole"] = list(whole)
    if provenance is not None:
        notes["provenance"] = provenance.to_json()
    return notes


def _config(layout: str, sparsity: float, notes: Mapping[str, Any]) -> dict[str, Any]:
    sparsity_config = {
        "format": layout,
        "targets": None,
        "ignore": None,
        "global_sparsity": sparsity,  # of what is pruned
        "sparsity_structure": "2:4" if layout == BITMASK_24 else "unstructured",
    }
    quantization = {"version": _VERSION, "quant_method": "compressed-tensors", "sparsity_config": sparsity_config}
    return {"quantization_config": quantization, "ntksap": notes}
