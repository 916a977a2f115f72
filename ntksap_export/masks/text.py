"""A mask's table and health as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ntksap_export.masks.counting import MaskTable
from ntksap_export.masks.health import MaskHealth


def format_table(table: MaskTable) -> str:
    """One line per layer: weights, kept, density, share of the MACs that are left; sums below."""
    width = max(5, *(len(row.name) for row in table.rows))
    lines = [f"{'layer':<{width}}  {'shape':>16}  {'weights':>11}  {'kept':>11}  density  FLOP share"]
    lines += [
        f"{row.name:<{width}}  {'x'.join(map(str, row.shape)):>16}  {row.weights:>11,}  {row.kept:>11,}  "
        f"{row.density:>6.2%}  {row.flop_share:>9.2%}"
        for row in table.rows
    ]
    lines.append(
        f"{'total':<{width}}  {'':>16}  {table.weights:>11,}  {table.kept:>11,}  {table.density:>6.2%}  "
        f"FLOP density {table.flop_density:.2%} (theoretical speed-up {table.theoretical_speedup:.2f}x)"
    )
    return "\n".join(lines)


def format_health(health: MaskHealth) -> str:
    """One line per finding, or one that says that there is none."""
    if not health.advice:
        return "mask health: no layer, channel or class was emptied"
    return "\n".join(f"mask health: {sentence}" for sentence in health.advice)


def format_channels(summary: Mapping[str, Any]) -> str:
    """One line per group of channels: kept of dense, and why a group was left whole; sums below."""
    groups = summary["groups"]
    width = max(5, *(len(group["layer"]) for group in groups))
    lines = [f"{'group':<{width}}  channels  kept"]
    for group in groups:
        reason = f"  left whole: {group['reason']}" if group.get("reason") else ""
        lines.append(f"{group['layer']:<{width}}  {group['channels']:>8,}  {group['kept']:>4,}{reason}")
    lines.append(f"{'total':<{width}}  {summary['channels']:>8,}  {summary['kept']:>4,}")
    return "\n".join(lines)
