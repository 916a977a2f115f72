"""Graph passes over an ONNX file that stands alone, ours or not."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ntksap_export.config import defaults
from ntksap_export.errors import ConfigError, ExportError
from ntksap_export.graph import Graph, graph_files, move_graph, optimize, select_passes, sparsify, with_dense
from ntksap_export.pipeline.engine import refuse_engine
from ntksap_export.pipeline.exporting import passes_json
from ntksap_export.progress import Progress, Silent
from ntksap_export.runtime.same import SameCheck, compare_graphs

# What somebody else noted in a graph may be wanted: class names, how images are to be prepared.
_NOT_USUAL: Final = ("-strip_metadata",)
_SIZE: Final = 32
_USUAL: Final = defaults("export")


def optimize_file(
    source: Path,
    target: Path,
    passes: Sequence[str] = (),
    *,
    overwrite: bool = False,
    check: bool = True,
    image_size: int = _SIZE,
    atol: float = _USUAL["atol"],
    rtol: float = _USUAL["rtol"],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run passes over `source` and write `target`, whole or not at all, after comparing the two on noise.

    Args:
        source: an ONNX file of any maker, with its external data beside it. Passes see its sparse initializers dense;
            `target` has them sparse again where that is still smaller.
        target: what to write; above 1 GiB with external data beside it.
        passes: as `--passes` has them; nothing is the usual list without strip_metadata.
        overwrite: `target` may be `source`.
        check: run both with onnxruntime on noise, batches 1 and 2, and write nothing if they differ.
        image_size: for the noise, where the graph leaves the size of an input open.
        atol: absolute tolerance of an output.
        rtol: tolerance as a share of the largest number of an output.
        progress: where messages go.

    Returns:
        As `ntksap optimize --json` prints it.

    Raises:
        ConfigError: an unknown pass, or a target that cannot be one.
        CheckpointError: a sparse initializer contradicts itself.
        ExportError: no valid graph; one that differs, or cannot be run to be compared. Nothing is written then.
        OSError: the target cannot be written.
    """
    names = select_passes(passes or _NOT_USUAL)
    _check_target(source, target, overwrite)
    after, sparse, told = _optimized(source, target, names, progress or Silent())
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent) as beside:
        staged = Path(beside) / target.name
        after.save(staged)
        del after  # the runtimes that compare want its memory
        still = sparsify(staged, staged, sparse) if sparse else ()
        size = _bytes(source)
        checks = compare_graphs(source, staged, size=image_size, atol=atol, rtol=rtol) if check else ()
        _refuse_differences(checks, names, atol, rtol)
        files = move_graph(staged, target)
    return {
        "schema": 1,
        "source": str(source),
        "target": str(target),
        "files": [str(file) for file in files],
        "bytes": [size, _bytes(target)],
        "sparse_initializers": [len(sparse), len(still)],
        **told,
        "checks": [asdict(item) for item in checks],
    }


def _optimized(
    source: Path, target: Path, names: Sequence[str], progress: Progress
) -> tuple[Graph, tuple[str, ...], dict[str, Any]]:
    """The new graph, names of the sparse initializers that the old one had, and what was done."""
    stored = Graph.load(source)
    refuse_engine(stored, str(source), "whose nodes no pass looks into")
    if target.exists() and any(target.samefile(file) for file in graph_files(source)[1:]):
        raise ConfigError(f"'{target}' holds the weights of '{source}'; name another file")
    before = with_dense(stored, source)
    after, log = optimize(before, names)
    for entry in log:
        for line in entry.lines():
            progress.say(f"  {line}")
    nodes = [len(graph.proto.graph.node) for graph in (before, after)]
    return after, stored.sparse, {"nodes": nodes, **passes_json(log)}


def _bytes(graph: Path) -> int:
    return sum(file.stat().st_size for file in graph_files(graph))


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise ConfigError(f"'{target}' is a directory; name the file to write")
    if not overwrite and source.exists() and target.exists() and source.samefile(target):
        raise ConfigError(f"'{target}' is the graph that is read; name another file, or add --overwrite to replace it")


def _refuse_differences(checks: Sequence[SameCheck], names: Sequence[str], atol: float, rtol: float) -> None:
    failed = [item for item in checks if not item.passed]
    if failed:
        worst = max(failed, key=lambda item: item.max_abs)
        amount = f"{worst.max_abs:.3g}" if math.isfinite(worst.max_abs) else "more than any number"
        raise ExportError(
            f"the optimized graph differs by {amount} in '{worst.output}' at batch {worst.batch}, where {atol:g} + "
            f"{rtol:g} x {worst.scale:.3g} is allowed; nothing was written. Leave a pass out with --passes -NAME, of "
            f"{', '.join(names)}"
        )
