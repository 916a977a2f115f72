"""What is converted from and to: the formats of `checkpoint`, and ONNX graphs, which another room knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ntksap_export.checkpoint import formats
from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import compressed_tensors, dense, npz, ours, torch_file
from ntksap_export.checkpoint.provenance import Provenance
from ntksap_export.checkpoint.source import Source
from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.graph import Weights, densify, graph_files, is_graph, open_weights, sparsify
from ntksap_export.pipeline.convert.options import ConvertOptions
from ntksap_export.runtime.engine import uses_engine

GRAPH: Final = "onnx"
WRAPPED: Final = ("safetensors", "torch")  # formats in which a prefix of all names is taken for a wrapper's
Write = Callable[[Path, Source, Provenance | None, ConvertOptions], None]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that a checkpoint is written as.

    Attributes:
        format: what it is recognised as afterwards.
        keeps_masks: whether masks come back, or their zeros alone.
        write: path beside the output, source, provenance, options -> None.
        reopen: opens what was written; takes no name for a wrapper's, as `convert` does with a file of others.
    """

    format: str
    keeps_masks: bool
    write: Write
    reopen: Callable[[Path], AbstractContextManager[Source]]


def _ours(path: Path, source: Source, provenance: Provenance | None, options: ConvertOptions) -> None:
    ours.write(path, source, provenance, encoding=options.encoding, max_shard_bytes=options.max_shard_bytes)


def _dense(path: Path, source: Source, provenance: Provenance | None, options: ConvertOptions) -> None:  # noqa: ARG001
    dense.write(path, source, provenance)


def _torch(path: Path, source: Source, provenance: Provenance | None, options: ConvertOptions) -> None:  # noqa: ARG001
    torch_file.write(path, source, provenance)


def _torch_prune(path: Path, source: Source, provenance: Provenance | None, options: ConvertOptions) -> None:  # noqa: ARG001
    torch_file.write(path, source, provenance, masks=True)


def _compressed(path: Path, source: Source, provenance: Provenance | None, options: ConvertOptions) -> None:
    compressed_tensors.write(path, source, provenance, two_four=options.sparse_24)


def _npz(path: Path, source: Source, provenance: Provenance | None, options: ConvertOptions) -> None:  # noqa: ARG001
    npz.write(path, source, provenance)


TARGETS: Final[Mapping[str, Target]] = {
    "ntksap": Target("ntksap", True, _ours, ours.open_source),
    "safetensors": Target("safetensors", False, _dense, partial(dense.open_source, strip=False)),
    "torch": Target("torch", False, _torch, partial(torch_file.open_source, strip=False)),
    "torch-prune": Target("torch", True, _torch_prune, partial(torch_file.open_source, strip=False)),
    "compressed-tensors": Target("compressed-tensors", True, _compressed, compressed_tensors.open_source),
    "npz": Target("npz", True, _npz, npz.open_source),
}


class Initializers:
    """The initializers of a graph as a checkpoint's tensors; a sparse one is kept where it stores a value."""

    provenance: Provenance | None = None

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def names(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return self._weights.names()

    def read(self, name: str) -> Decoded:
        """One of them."""
        return Decoded(*self._weights.read(name))


def kind_of(path: Path) -> str | None:
    """A key of `FORMATS`, or `onnx`; None for what is neither."""
    if (found := formats.format_of(path)) is not None:
        return found
    return GRAPH if is_graph(path) else None


def pieces(path: Path, kind: str) -> tuple[Path, ...]:
    """The files that hold what is at `path`."""
    return graph_files(path) if kind == GRAPH else formats.pieces(path, kind)


@contextmanager
def open_kind(path: Path, kind: str) -> Iterator[Source]:
    """Open a checkpoint, or the weights of a graph.

    Raises:
        CheckpointError: it is damaged, or a graph whose weights are in a plan of the sparse engine.
    """
    if kind == GRAPH:
        if uses_engine(path):
            raise CheckpointError(f"{path}: its weights are packed for the sparse engine; use the model.onnx beside it")
        with open_weights(path) as weights:
            yield Initializers(weights)
        return
    with formats.FORMATS[kind].open_source(path) as source:
        yield source


# How a graph is stored otherwise: source and path beside the output -> names of what was changed.
REWRITES: Final[Mapping[str, Callable[[Path, Path], tuple[str, ...]]]] = {"onnx": densify, "onnx-sparse": sparsify}


def target_of(to: str) -> Target:
    """How `to` is written.

    Raises:
        ConfigError: it is a graph, which no checkpoint becomes.
    """
    if to not in TARGETS:
        raise ConfigError(f"a checkpoint holds weights and no graph, so it cannot become {to}; use `ntksap export`")
    return TARGETS[to]
