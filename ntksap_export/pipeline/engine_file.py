"""An ONNX file of any maker with its body in a node of the sparse engine, compared with the file itself on noise."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ntksap_export.config import make_config
from ntksap_export.errors import ConfigError, ExportError
from ntksap_export.graph import Graph, load_dense
from ntksap_export.graph.image_input import image_input
from ntksap_export.graph.precision import precision_of
from ntksap_export.pipeline.engine import (
    LIMITS,
    Compare,
    Places,
    check_engine,
    engine_summary,
    refuse_engine,
    write_body,
)
from ntksap_export.pipeline.export_any import check_out
from ntksap_export.pipeline.twins import noise_for
from ntksap_export.progress import Progress
from ntksap_export.runtime.ort import LEVELS, OrtSession
from ntksap_export.runtime.parity import BATCHES, Parity, check_parity, make_probes
from ntksap_export.runtime.session import Images

TAKEN: Final = ("engine", "external_data", "image_size")  # settings that apply to a graph which is there


def engine_file(source: Path, settings: Mapping[str, Any], out: Path | None, progress: Progress) -> dict[str, Any]:
    """Write NAME.sparse.onnx, or `out`, of a graph that is not changed.

    Args:
        source: an ONNX file with one image input and constant weights in float32.
        settings: keys of `RunConfig` that were given; see `TAKEN`.
        out: the new file; None puts it beside `source`.
        progress: where the log goes.

    Returns:
        As `export_any`: the name, files and their bytes, the parity, and `engine`.

    Raises:
        ConfigError: the graph is asked for something else than the engine, or is one of the engine's.
        UnavailableError: the engine was not built.
        ExportError: no graph, one that the engine covers nothing of, or the two disagree.
    """
    if others := [key for key in settings if key not in TAKEN]:
        raise ConfigError(
            f"'{source}' is a graph already; --{others[0].replace('_', '-')} is for the export of a model"
        )
    if not settings.get("engine"):
        raise ConfigError(f"'{source}' is a graph already; --engine writes it for the sparse engine")
    places = Places.beside(source, source.parent)
    if out is not None:
        check_out(out)
        places = replace(places, target=out, rejected=out.with_name(f"{out.stem}.rejected.onnx"))
    if places.target.exists() and places.target.samefile(source):
        raise ConfigError(f"'{out}' is the graph that is read; name another file with --out")
    check_engine(True)
    config = make_config({**settings, "model": source.stem})
    graph = load_dense(source)
    refuse_engine(graph, str(source), "so it has its nodes already")
    if (precision := precision_of(graph)) != "fp32":
        raise ConfigError(f"the sparse engine computes in fp32; '{source}' is a graph in {precision}")
    images = noise_for(graph, image_input(graph).shape(config.image_size), max(BATCHES))
    places.target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{places.target.name}.", suffix=".part", dir=places.target.parent
    ) as beside:
        places = replace(places, staged=Path(beside) / places.target.name)
        body = write_body(config, graph, images.shape, _against_file(source, images), places, progress)
    if body.problem is not None:
        raise ExportError(body.problem)
    return {
        "model": source.stem,
        "files": {file.name: file.stat().st_size for file in body.files},
        "parity": {key: body.entry[key] for key in ("passed", "top1_agreement", "checks")},
        "engine": {**engine_summary(body.entry), "left": body.entry["left"]},
    }


def _against_file(source: Path, images: Images) -> Compare:
    """A comparison with the file, run as it stands; batches are those of the noise where the graph fixes them."""

    def compare(graph: Graph, file: Path) -> Parity:
        fixed = image_input(graph).sides[0]
        with ExitStack() as held:
            reference = held.enter_context(OrtSession(source, optimization="off"))
            sessions = [held.enter_context(OrtSession(file, optimization=level)) for level in LEVELS]
            return check_parity(reference, sessions, make_probes(images, (fixed,) if fixed else BATCHES), limits=LIMITS)

    return compare
