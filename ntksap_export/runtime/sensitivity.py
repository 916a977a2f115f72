"""Which layers int8 hurts, measured; and how many of them must stay float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ntksap_export.graph import Graph
from ntksap_export.graph.precision import Layer, layers
from ntksap_export.runtime.accuracy import answers, sqnr_db
from ntksap_export.runtime.ort import OrtSession
from ntksap_export.runtime.quantize import Ranges, quantize
from ntksap_export.runtime.session import Images

Ranked = tuple[tuple[Layer, float], ...]


def rank_layers(
    graph: Graph,
    ranges: Ranges,
    batches: Sequence[Images],
    *,
    reduced: bool = False,
    threads: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Ranked:
    """Layers and the SQNR in dB of the logits when that layer alone is int8, the worst first.

    Args:
        graph: float32; see `graph.precision.named`.
        ranges: of its activations.
        batches: images to measure on; their labels are not needed, so that training images do.
        reduced: as for `quantize`.
        threads: of onnxruntime; 0 leaves it to it.
        advance: called after each layer.
    """
    found = layers(graph)
    with OrtSession(graph.to_bytes(), threads=threads) as session:
        expected = answers(session, batches)
    nodes = {node.name for node in graph.proto.graph.node}
    measured = []
    for layer in found:
        alone = quantize(graph, ranges, keep=nodes - {layer.node}, reduced=reduced)
        with OrtSession(alone.to_bytes(), threads=threads) as session:
            measured.append((layer, sqnr_db(expected, answers(session, batches))))
        if advance is not None:
            advance(1)
    return tuple(sorted(measured, key=lambda pair: pair[1]))


def fewest(most: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest count in 1..most for which `holds`, if it goes on holding above; None if it does not at `most`.

    Tries 1, 2, 4, ... and then halves what lies between: few tries where few are needed.
    """
    failed, tried = 0, 1
    while not holds(min(tried, most)):
        failed = min(tried, most)
        if failed == most:
            return None
        tried *= 2
    held = min(tried, most)
    while held - failed > 1:
        middle = (held + failed) // 2
        if holds(middle):
            held = middle
        else:
            failed = middle
    return held
