"""The kernel's counters around a turn: CPU time of the measuring cores, throttling, energy. Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_STAT = Path("/proc/stat")
_CPUS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup/cpu.stat")
_POWERCAP = Path("/sys/class/powercap")
_IDLE = (3, 4)  # idle, iowait
_STEAL = 7
_FIELDS = 8  # what follows (guest) is counted in user already


def cpu_seconds(cpus: Iterable[int]) -> dict[str, float]:
    """CPU time so far: `total`, `busy` and `steal` of these cores, `own` of this process; empty where it is not told.

    The kernel counts in steps of usually 10 ms, so only sums over many turns mean something.
    """
    names = {f"cpu{cpu}" for cpu in cpus}
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines()]
    except OSError:
        return {}
    rows = [[int(value) for value in line[1 : 1 + _FIELDS]] for line in lines if line and line[0] in names]
    if not rows:
        return {}
    tick = os.sysconf("SC_CLK_TCK")
    total, steal = sum(map(sum, rows)), sum(row[_STEAL] for row in rows)
    idle = sum(row[place] for row in rows for place in _IDLE)
    times = os.times()
    return {
        "total": total / tick,
        "busy": (total - idle - steal) / tick,
        "steal": steal / tick,
        "own": times.user + times.system,
    }


def clock_mhz(cpus: Iterable[int]) -> float | None:
    """The lowest clock of the cores now; None where it is not told (most virtual machines)."""
    found = [_number(_CPUS / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq") for cpu in cpus]
    known = [value for value in found if value is not None]
    return min(known) / 1000 if known else None


def throttle_counts(cpus: Iterable[int]) -> dict[str, int | None]:
    """How often the cores were slowed down by heat, and this container by its quota; None where it is not told."""
    heat = [_number(_CPUS / f"cpu{cpu}" / "thermal_throttle" / "core_throttle_count") for cpu in cpus]
    known = [count for count in heat if count is not None]
    return {"heat": sum(known) if known else None, "cpu_quota": _quota_count()}


def energy_uj() -> dict[str, tuple[int, int]]:
    """RAPL: microjoules so far and where the counter starts anew, by domain: whole packages, and memory beside them.

    Sub-domains (cores, graphics) are part of their package. Empty where there is none, or only root may read it.
    """
    found = {}
    try:
        zones = sorted(_POWERCAP.glob("intel-rapl*"))
    except OSError:
        return {}
    for zone in zones:
        name = _text(zone / "name") or ""
        used, reach = _number(zone / "energy_uj"), _number(zone / "max_energy_range_uj")
        if used is not None and reach is not None and (name.startswith("package") or name == "dram"):
            found[zone.name] = (used, reach)
    return found


def energy_used_j(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> float | None:
    """Joules between two readings of `energy_uj`, a counter that started anew reckoned in; None without a counter."""
    common = before.keys() & after.keys()
    if not common:
        return None
    used = 0
    for name in common:
        (start, reach), (end, _) = before[name], after[name]
        used += end - start if end >= start else end + reach - start
    return used / 1e6


def added(total: dict[str, float], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """`total` and what came between two readings."""
    return {key: total.get(key, 0.0) + after[key] - before[key] for key in after if key in before}


def events_between(before: Mapping[str, int | None], after: Mapping[str, int | None]) -> dict[str, int | None]:
    """The difference of two readings of `throttle_counts`."""
    return {
        key: None if value is None or before.get(key) is None else value - (before[key] or 0)
        for key, value in after.items()
    }


def energy_json(joules: float | None, images: int, seconds: float) -> dict[str, Any]:
    """For a cell: joules per image and watts of everything on the socket, or why there is none."""
    if joules is None or not images:
        return {"skipped": "no readable RAPL counters (/sys/class/powercap); they need an Intel or AMD CPU and root"}
    return {
        "joules_per_image": joules / images,
        "watts": joules / seconds if seconds else None,
        "method": "RAPL: CPU packages and memory, idle power and other processes included",
    }


def _quota_count() -> int | None:
    for line in (_text(_CGROUP) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "nr_throttled":
            return int(value)
    return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
