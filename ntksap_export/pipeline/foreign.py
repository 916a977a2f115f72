"""Measuring a graph that stands alone, outside a run directory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntksap_export.atomic import write_json
from ntksap_export.config import make_config
from ntksap_export.errors import ConfigError
from ntksap_export.graph import Graph, dense_twin, graph_files, load_dense, read_preprocessing, weight_sparsity
from ntksap_export.pipeline.profiling import profile_json
from ntksap_export.profiling.profile import Variant, profile
from ntksap_export.profiling.settings import Settings
from ntksap_export.progress import Progress


def profile_graph(
    path: Path, settings: Mapping[str, Any], image_size: int | None, out: Path | None, progress: Progress
) -> dict[str, Any]:
    """Measure an ONNX file; one with zeros in its weights beside a twin without.

    Args:
        path: the graph.
        settings: the `profile_*` keys of `RunConfig` that were given.
        image_size: side of the input where the graph leaves it open.
        out: where to write the result, or None.
        progress: where cells are shown.

    Raises:
        ExportError: not a graph.
        ConfigError: an input shape that is not known.
    """
    config = make_config({"model": "onnx", "profile_backend": ("onnxruntime",), **settings})
    graph = load_dense(path)
    shape = _shape(graph, image_size)
    sparse = weight_sparsity(graph) > 0
    with tempfile.TemporaryDirectory() as scratch:
        variants = [Variant("sparse" if sparse else "dense", path, None, None, shape)]
        if sparse:
            twin = Path(scratch) / "dense.onnx"
            dense_twin(graph).save(twin)
            variants.append(Variant("dense", twin, None, None, shape))
        cells = profile(variants, Settings.of(config), progress=progress)
    result = profile_json(cells, {file.name: file.stat().st_size for file in graph_files(path)})
    if out is not None:
        write_json(out, result)
    return result


def _shape(graph: Graph, image_size: int | None) -> tuple[int, int, int]:
    inputs = graph.proto.graph.input
    if len(inputs) != 1:
        raise ConfigError(f"the graph has {len(inputs)} inputs; only graphs with one image input can be profiled")
    sides = [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim]
    if len(sides) != 4:
        raise ConfigError(f"the graph's input has {len(sides)} axes; images (N, C, H, W) are expected")
    told = read_preprocessing(graph.proto)
    if told is not None and told.layout == "NHWC":
        sides = [sides[place] for place in (0, 3, 1, 2)]
    usual = (image_size, image_size) if image_size or told is None else told.size
    channels, height, width = sides[1] or 3, sides[2] or usual[0], sides[3] or usual[1]
    if not height or not width:
        raise ConfigError("the graph leaves the size of its input open; give it with --image-size")
    return channels, height, width
