"""Where NTK-SAP's weights and FLOPs go under each budget: ResNet-50 at 224x224, and ResNet-20 at 32x32.

python benchmarks/flops.py [--rounds 20]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from common import save

from ntksap_export import models
from ntksap_export.masks import MaskTable, layer_costs, mask_table
from ntksap_export.pruning import Budget, NtkSap, ScoringInputs, prune

BUDGETS = {
    "--sparsity 0.9": Budget(0.9),
    "--flops 0.25": Budget(flops=0.25),
    "--flops 0.1": Budget(flops=0.1),
    "--sparsity 0.9 --flops 0.25": Budget(0.9, flops=0.25),
}
NETWORKS = {"resnet50": (1000, 224, 16), "resnet20": (10, 32, 100)}


def groups(table: MaskTable) -> dict[str, float]:
    """Density by the first part of the layers' names."""
    sums: dict[str, list[int]] = {}
    for row in table.rows:
        pair = sums.setdefault(row.name.split(".")[0], [0, 0])
        pair[0] += row.kept
        pair[1] += row.weights
    return {name: kept / weights for name, (kept, weights) in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for name, (classes, size, batch) in NETWORKS.items():
        model = models.build(name, classes)
        costs = layer_costs(model, (3, size, size))
        lines.append(f"{name} at {size}x{size}, ntksap, {rounds} rounds of one batch of {batch}")
        for flags, budget in BUDGETS.items():
            start = time.perf_counter()
            mask = prune(model, NtkSap(), ScoringInputs((3, size, size), batch), budget, rounds=rounds)
            seconds = time.perf_counter() - start
            table = mask_table(mask, costs)
            densities = groups(table)
            rows.append(
                {
                    "model": name,
                    "budget": flags,
                    "rounds": rounds,
                    "seconds": seconds,
                    "density": table.density,
                    "flop_density": table.flop_density,
                    "groups": densities,
                    "layers": {row.name: row.density for row in table.rows},
                }
            )
            shown = "  ".join(f"{group} {density:.1%}" for group, density in densities.items())
            lines.append(
                f"  {flags:<28} weights {table.density:6.2%}  FLOPs {table.flop_density:6.2%}  "
                f"{shown}  ({seconds:.0f} s)"
            )
        lines.append("")
    save("flops", rows, "\n".join(lines).rstrip())


if __name__ == "__main__":
    main()
