"""Asked, promised, measured: ResNet-50 at 224x224 under latency budgets, beside FLOP budgets of the same FLOPs.

python benchmarks/latency_budget.py [--model resnet50 --image-size 224 --shares 0.75,0.5,0.35 --backend onnxruntime]

The dense network is timed once more at the end: how far the machine drifted meanwhile. XDG_CACHE_HOME=$(mktemp -d)
has every layer timed afresh.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import torch
from common import save
from torch import nn

from ntksap_export import models
from ntksap_export.graph import Graph, optimize, select_passes
from ntksap_export.graph import export as export_graph
from ntksap_export.latency_budget import LatencyBudget
from ntksap_export.masks import layer_costs, mask_table
from ntksap_export.profiling.latency_table import MachineMeter
from ntksap_export.profiling.timings import this_machine
from ntksap_export.pruning import Budget, ChannelPlan, ScoringInputs, make_scorer, prune_channels
from ntksap_export.pruning.latency_goal import LatencyGoal

_HEAD = (
    f"{'asked':>9} {'promised':>9} {'measured':>9} {'95 % interval':>18} {'tries':>5} {'seconds':>7}"
    f" {'weights':>8} {'FLOPs':>7}   by --flops of the same FLOPs"
)


def meter_of(model: nn.Module, asked: LatencyBudget, size: int) -> MachineMeter:
    """What times layers and networks, with nothing known yet."""
    images = torch.zeros(1, 3, size, size)

    def export(plan: ChannelPlan) -> Graph:
        return optimize(export_graph(plan.apply(model), images), select_passes(()))[0]

    return MachineMeter(model, (3, size, size), export, this_machine(asked.settings()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--shares", default="0.75,0.5,0.35")
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--method", default="ntksap", help="one that needs no data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-to", type=int, default=8)
    given = parser.parse_args()
    model = models.build(given.model, 1000).eval()
    shape = (3, given.image_size, given.image_size)
    inputs, costs = ScoringInputs(shape, 16), layer_costs(model, shape)
    asked = LatencyBudget(1.0, given.backend, "cpu", given.batch, given.threads)
    meter = meter_of(model, asked, given.image_size)
    dense = meter.whole(ChannelPlan())
    where = f"{given.model} at {given.image_size}x{given.image_size}, {asked.where()}"
    lines = [f"{where}; {given.method}, {given.rounds} rounds; dense {dense.ms:.3f} ms", _HEAD]
    rows: list[dict[str, Any]] = []
    for share in map(float, given.shares.split(",")):
        start = time.perf_counter()
        goal = LatencyGoal(LatencyBudget(share * dense.ms, given.backend, "cpu", given.batch, given.threads), meter)
        scorer, options = make_scorer(given.method), {"rounds": given.rounds, "round_to": given.round_to}
        plan = prune_channels(model, scorer, inputs, Budget(latency=goal.budget), latency=goal, **options)
        seconds, reached = time.perf_counter() - start, goal.reached
        assert reached is not None
        table = mask_table(plan.mask(model), costs)
        other = prune_channels(model, scorer, inputs, Budget(flops=table.flop_density), **options)
        by_flops = meter.whole(other)
        rows.append(
            {
                "share": share,
                **reached.to_json(),
                "seconds": seconds,
                "density": table.density,
                "flop_density": table.flop_density,
                "by_flops_ms": by_flops.ms,
                "channels": plan.summary(),
            }
        )
        measured = reached.measured
        lines.append(
            f"{reached.asked_ms:9.3f} {reached.promised_ms:9.3f} {measured.ms:9.3f} "
            f"{measured.low_ms:8.3f} to {measured.high_ms:6.3f} {reached.iterations:5d} {seconds:7.0f} "
            f"{table.density:8.1%} {table.flop_density:7.1%}   {by_flops.ms:.3f} ms"
        )
        print(lines[-1], flush=True)
    again = meter_of(model, asked, given.image_size).whole(ChannelPlan())
    lines.append(f"dense again: {again.ms:.3f} ms; {len(meter.timings.known)} timings")
    save("latency_budget", rows, "\n".join(lines))


if __name__ == "__main__":
    main()
