"""The int8 graph of a run: which layers stay float32 is measured, not guessed."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from ntksap_export.graph import Graph
from ntksap_export.graph.precision import Layer, check_int8, choose_layers, float_operators, layers
from ntksap_export.hardware import cpu_flags
from ntksap_export.pipeline.context import Context
from ntksap_export.runtime.accuracy import Judged
from ntksap_export.runtime.parity import Parity
from ntksap_export.runtime.quantize import Ranges, calibrate, needs_reduced, quantize
from ntksap_export.runtime.sensitivity import Ranked, fewest, rank_layers
from ntksap_export.runtime.session import Images

_RANKED_ON: Final = 32  # images: what ranks layers is the noise in all their logits, not a count of right answers


@dataclass(frozen=True, slots=True)
class Examined:
    """A smaller graph, looked at once.

    Attributes:
        judged: beside the float32 graph, on the validation images.
        parity: beside the model.
        problem: why it may not be delivered, in one line, or None.
    """

    judged: Judged
    parity: Parity
    problem: str | None


Examine = Callable[[Graph], Examined]


def make_int8(
    context: Context, graph: Graph, images: Sequence[Images], examine: Examine
) -> tuple[Graph, Examined, dict[str, Any]]:
    """Quantize; where that is not good enough, leave out the fewest of the layers that hurt most.

    Args:
        context: of the run.
        graph: float32; see `graph.precision.named`.
        images: batches of training images to calibrate on.
        examine: measures a graph on the validation images, and compares it with the model.

    Returns:
        The graph, what was seen of it, and what parity.json says of it. Where no choice of up to half of the layers
        is good enough, all of them int8.
    """
    config = context.config
    names = () if config.int8_keep in (("auto",), ("none",)) else config.int8_keep
    kept: dict[Layer, str] = dict.fromkeys(choose_layers(layers(graph), names), "asked for")
    context.progress.say(f"  int8: calibrate on {sum(map(len, images))} training images, {config.calibration}")
    reduced, why = _range(config.int8_range)
    ranges = calibrate(graph, images, config.calibration)

    def make(keep: Iterable[Layer]) -> Graph:
        return quantize(graph, ranges, keep=[layer.node for layer in keep], reduced=reduced)

    int8 = make(kept)
    seen = examine(int8)
    searched = None
    if config.int8_keep == ("auto",) and seen.problem is not None:
        ranked = _rank(context, graph, ranges, images, reduced)
        found = _search(context, ranked, make, examine)
        searched = {layer.name: round(value, 2) for layer, value in ranked}
        if found is not None:
            count, int8, seen = found
            kept = {layer: f"alone in int8 it leaves an SQNR of {value:.1f} dB" for layer, value in ranked[:count]}
    return int8, seen, {
        "calibration": {"method": config.calibration, "images": config.calibration_images, "split": "train"},
        "weights": {"range": "reduced" if reduced else "full", "why": why},
        "int8_layers": list(check_int8(int8, graph)),
        "float32_layers": {layer.name: reason for layer, reason in kept.items()},
        "float32_operators": float_operators(int8),
        "sensitivity_db": searched,
    }  # fmt: skip


def _range(asked: str) -> tuple[bool, str]:
    """Whether weights get 7 bits, and why."""
    if asked != "auto":
        return asked == "reduced", "asked for"
    if needs_reduced(cpu_flags(), platform.machine()):
        return True, "this CPU has no VNNI: sums of u8 x s8 products would saturate at 16 bits"
    return False, "this CPU adds u8 x s8 products in 32 bits; for one without VNNI export with --int8-range reduced"


def _rank(context: Context, graph: Graph, ranges: Ranges, images: Sequence[Images], reduced: bool) -> Ranked:
    few: list[Images] = []
    for batch in images:
        if (missing := _RANKED_ON - sum(map(len, few))) > 0:
            few.append(batch[:missing])
    with context.progress.task("sensitivity of layers", len(layers(graph))) as task:
        return rank_layers(graph, ranges, few, reduced=reduced, threads=torch.get_num_threads(), advance=task.advance)


def _search(
    context: Context, ranked: Ranked, make: Callable[[Iterable[Layer]], Graph], examine: Examine
) -> tuple[int, Graph, Examined] | None:
    """The fewest layers to leave out, the graph without them in int8, and what was seen of it."""
    tried: dict[int, tuple[Graph, Examined]] = {}
    most = max(1, len(ranked) // 2)

    def holds(count: int) -> bool:
        graph = make(layer for layer, _ in ranked[:count])
        seen = examine(graph)
        tried[count] = graph, seen
        drop = seen.judged.drop
        context.progress.say(f"  int8: {count} of {len(ranked)} layers in float32, accuracy drops {drop:.2f} points")
        return seen.problem is None

    count = fewest(most, holds)
    return None if count is None else (count, *tried[count])
