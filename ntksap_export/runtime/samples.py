"""Inputs and the right answers, as files beside a graph: so that any runtime, in any language, can be checked offline.

sample_inputs/batch2.npz     the graph's input by its name
sample_outputs/batch2.npz    what the torch model answers, by the names of the graph's outputs
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ntksap_export.atomic import replacing_folder
from ntksap_export.checkpoint.formats.npy_arrays import write_archive
from ntksap_export.graph import Graph
from ntksap_export.runtime.eager import TorchSession
from ntksap_export.runtime.parity import take
from ntksap_export.runtime.session import Images

INPUTS, OUTPUTS = "sample_inputs", "sample_outputs"
SAMPLE_BATCHES = (1, 2)


def write_samples(
    folder: Path, model: nn.Module, graph: Graph, images: Images, batches: Sequence[int] = SAMPLE_BATCHES
) -> tuple[str, ...]:
    """Write both folders into `folder`, each whole or not at all. Equal arrays give equal bytes.

    Args:
        folder: where the graph lies.
        model: what is right.
        graph: its names of input and outputs.
        images: real ones, as the graph takes them; repeated where they are fewer than a batch.
        batches: a file for each.

    Returns:
        The files, relative to `folder`.

    Raises:
        OSError: they cannot be written.
    """
    proto = graph.proto.graph
    names = [item.name for item in proto.output]
    given = {count: take(images, count) for count in batches}
    with TorchSession(model) as session:
        answers = {count: session.run_all(batch) for count, batch in given.items()}
    files = []
    with replacing_folder(folder / INPUTS) as inputs, replacing_folder(folder / OUTPUTS) as outputs:
        for count, values in answers.items():
            write_archive(inputs / f"batch{count}.npz", {proto.input[0].name: given[count]})
            write_archive(outputs / f"batch{count}.npz", dict(zip(names, values, strict=True)))
            files += [f"{INPUTS}/batch{count}.npz", f"{OUTPUTS}/batch{count}.npz"]
    return tuple(files)
