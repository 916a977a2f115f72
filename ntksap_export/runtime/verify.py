"""Does onnxruntime answer as the model does? What every exported graph goes through."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import nn

from ntksap_export.graph import Graph
from ntksap_export.runtime.eager import TorchSession
from ntksap_export.runtime.locate import locate
from ntksap_export.runtime.ort import LEVELS, OrtSession
from ntksap_export.runtime.parity import BATCHES, Limits, Parity, ParityCheck, Probe, check_parity, make_probes
from ntksap_export.runtime.session import Images


def verify(
    model: nn.Module,
    graph: Graph,
    images: Images,
    limits: Limits,
    *,
    batches: Sequence[int] = BATCHES,
    noise: bool = True,
    file: Path | None = None,
) -> Parity:
    """Compare a graph with its model: each output, runtime optimization off and on, each batch, real images and noise.

    A graph that leaves the size of images open is compared at another size, too.

    Args:
        model: on the CPU; what is right. Put in eval mode and channels_last, in place.
        graph: run by onnxruntime on the CPU.
        images: (N, ...), real ones, as the graph takes them.
        limits: how far apart they may be.
        batches: sizes to try; a graph that fixed its batch fails here.
        file: where the graph was written, to be run from there: one with external data; None runs it from memory.
        noise: whether to compare on noise too; a quantized graph is calibrated for images only.

    Returns:
        With `divergence` where a check failed and the node could be found.
    """
    probes = [
        probe for probe in make_probes(images, batches, open_axes=graph.open_axes) if noise or probe.source != "noise"
    ]
    source = file or graph.to_bytes()
    with ExitStack() as held:
        reference = held.enter_context(TorchSession(model))
        sessions = [held.enter_context(OrtSession(source, optimization=level)) for level in LEVELS]
        parity = check_parity(reference, sessions, probes, limits=limits)
    failed = [check for check in parity.checks if not check.passed]
    if not failed:
        return parity
    first = min(failed, key=lambda check: (list(LEVELS).index(check.optimization), check.batch))
    images_of_it = next(probe.images for probe in probes if _is_of(check=first, probe=probe))
    return replace(parity, divergence=locate(model, graph, images_of_it, limits, first.optimization))


def _is_of(check: ParityCheck, probe: Probe) -> bool:
    return (check.batch, check.images) == (len(probe.images), probe.source)
