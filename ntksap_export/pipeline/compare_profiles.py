"""Two profiles of one network, before and after: the ratio of each cell, and whether a pipeline may go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.pipeline.conditions import METRICS, Condition, read_conditions
from ntksap_export.pipeline.profile_file import Key, Profile, Value, read_profile
from ntksap_export.quoting import printable

_MACHINE: Final = {"cpu": "CPU", "gpu": "GPU", "cores": "cores", "isa": "instruction sets", "governor": "governor"}
_NAMED: Final = 3  # missing cells in the verdict; --json has all


def compare_profiles(old: Path, new: Path, fail_if: Sequence[str] = (), strict: bool = False) -> dict[str, Any]:
    """Hold each cell of `new` beside the same cell of `old`.

    Args:
        old: a profile.json, or a run directory with one.
        new: likewise.
        fail_if: conditions that must hold of no cell, as `p50 > 1.05`; the metric is NEW / OLD.
        strict: an undecided cell, or one that `new` has not, fails as well.

    Returns:
        `passed`, the verdict in one `line`, `conditions` and `cells` with ratios and outcomes, what only one of both
        has, and in what the machines differ.

    Raises:
        ConfigError: a condition that cannot be read, or that no common cell has the metric of.
        CheckpointError: a file that is no profile, or no common cell.
    """
    conditions = read_conditions(fail_if)
    before, after = read_profile(old), read_profile(new)
    common = [key for key in after.cells if key in before.cells]
    if not common:
        raise CheckpointError(f"'{old}' and '{new}' have no measured cell in common{_instead(before, after)}")
    cells = [_cell(key, before.cells[key], after.cells[key], conditions) for key in common]
    judged = [_judged(condition, cells) for condition in conditions]
    only_old = [{"cell": str(key), "reason": after.skipped.get(key)} for key in before.cells if key not in after.cells]
    undecided = sum(entry["undecided"] for entry in judged)
    result = {
        "schema": 1,
        "old": str(old),
        "new": str(new),
        "passed": not any(entry["met"] for entry in judged) and not (strict and (undecided or only_old)),
        "strict": strict,
        "conditions": judged,
        "cells": cells,
        "only_old": only_old,
        "only_new": [{"cell": str(key)} for key in after.cells if key not in before.cells],
        "machine": _differences(before.environment, after.environment),
    }
    return {**result, "line": _line(result)}


def _cell(
    key: Key, old: Mapping[str, Value], new: Mapping[str, Value], conditions: Sequence[Condition]
) -> dict[str, Any]:
    ratios = {name: new[name].over(old[name]) for name in METRICS if name in old and name in new}
    return {
        "cell": str(key),
        **key._asdict(),
        "ratios": {
            name: {"value": ratio.point, "low": ratio.low, "high": ratio.high,
                   "old": old[name].point, "new": new[name].point}
            for name, ratio in ratios.items()
        },
        "outcomes": {
            str(condition): condition.judge(ratio.point, ratio.low, ratio.high)
            for condition in conditions
            if (ratio := ratios.get(condition.metric)) is not None
        },
    }  # fmt: skip


def _judged(condition: Condition, cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One condition over all cells that have its metric; `worst` is the one nearest to it, or furthest beyond."""
    of_it = [cell for cell in cells if condition.metric in cell["ratios"]]
    if not of_it:
        raise ConfigError(f"--fail-if '{condition}': no common cell has {condition.metric}")
    counts = {
        outcome: sum(cell["outcomes"][str(condition)] == outcome for cell in of_it) for outcome in ("met", "undecided")
    }
    worst = max(of_it, key=lambda cell: condition.excess(cell["ratios"][condition.metric]["value"]))
    return {
        "condition": str(condition),
        "cells": len(of_it),
        **counts,
        "worst": {"cell": worst["cell"], **worst["ratios"][condition.metric]},
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what two machines differ, a line each."""
    before, now = _facts(old), _facts(new)
    return [
        f"{name} {before.get(name, 'unknown')} before, {now.get(name, 'unknown')} now"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _facts(environment: Mapping[str, Any]) -> dict[str, str]:
    """What a time depends on, as short texts by its name for people."""
    found = {name: environment.get(key) for key, name in _MACHINE.items()}
    versions = environment.get("versions")
    if isinstance(versions, dict):
        found |= {printable(name[:80]): version for name, version in sorted(versions.items())}
    return {name: _short(value) for name, value in found.items()}


def _line(result: Mapping[str, Any]) -> str:
    """The verdict."""
    judged, missing = result["conditions"], result["only_old"]
    words = [_said(entry) for entry in judged]
    if not judged:
        words.append(f"{_cells(len(result['cells']))} compared, nothing was asked with --fail-if")
    if missing:
        strictly = " (--strict)" if result["strict"] else ""
        words.append(f"no longer measured: {_named(missing)}{strictly}")
    if result["only_new"]:
        words.append(f"only in the new one: {_named(result['only_new'])}")
    if result["machine"]:
        words.append(f"warning: not the same machine: {'; '.join(result['machine'])}")
    return f"{'passed' if result['passed'] else 'failed'}: {'; '.join(words)}"


def _said(entry: Mapping[str, Any]) -> str:
    worst = entry["worst"]
    interval = "" if worst["low"] == worst["high"] else f" ({worst['low']:.3f} to {worst['high']:.3f})"
    undecided = f", undecided in {entry['undecided']}" if entry["undecided"] else ""
    return (
        f"{entry['condition']} in {entry['met']} of {_cells(entry['cells'])}{undecided}, worst {worst['value']:.3f}"
        f"{interval}, {worst['cell']}"
    )


def _named(entries: Sequence[Mapping[str, Any]]) -> str:
    shown = [entry["cell"] + (f" ({entry['reason']})" if entry.get("reason") else "") for entry in entries[:_NAMED]]
    return " and ".join(shown) + (f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else "")


def _instead(before: Profile, after: Profile) -> str:
    """What they have, where they have nothing in common."""
    shown = [str(next(iter(side.cells))) if side.cells else "nothing measured" for side in (before, after)]
    return f": {shown[0]} there, {shown[1]} here"


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_short(item) for item in value[:20] if not isinstance(item, list)) or "none"
    return printable(str(value)[:80]) if isinstance(value, str | int | float) else "none"
