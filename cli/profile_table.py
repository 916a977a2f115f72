"""Measured cells on a terminal: a row each, grouped by setting, with bars; never wider than the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ntksap_export.cli.columns import aligned

Row = Mapping[str, Any]
_BARS: Final = (8, 24)  # characters; a narrow terminal gets short ones
_WIDE: Final = 120  # characters, where there is no terminal
_NAMES: Final = (10, 28)
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_NOISY, _FEW, _RESTS = "~", "?", " rests on "
_COMPARED: Final = ("p50", "p99", "run_peak", "file_size")


@dataclass(frozen=True, slots=True)
class Screen:
    """Where it is shown: characters in a line, and whether there are others than ASCII."""

    width: int
    unicode: bool


@dataclass(frozen=True, slots=True)
class _Column:
    """One column; those with a smaller rank stay when the terminal is narrow."""

    header: str
    rank: int
    text: Callable[[Row], str]


def screen(quiet: bool = False) -> Screen:
    """That of standard output."""
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    return Screen(
        shutil.get_terminal_size((_WIDE, 24)).columns,
        encoding.startswith("utf") and (sys.stdout.isatty() or not quiet),
    )


def latency_table(rows: Sequence[Row], pruned: str = "sparse", on: Screen | None = None) -> list[str]:
    """Measured cells as aligned lines under their setting; then marks, and skipped cells with their reason.

    Args:
        rows: of `latency_row`.
        pruned: what the variant `sparse` is called here.
        on: the screen; None is that of standard output.
    """
    on = on or screen()
    measured = [row for row in rows if row["status"] == "measured"]
    groups: dict[str, list[Row]] = {}
    for row in measured:
        groups.setdefault(_setting(row), []).append(row)
    lines = _table(groups, pruned, on) if groups else []
    return lines + _legend(measured) + _skipped([row for row in rows if row["status"] != "measured"], pruned)


def comparison_table(result: Mapping[str, Any]) -> list[str]:
    """Each cell of a comparison: NEW / OLD of the metrics that were asked for, or of a few."""
    asked = [entry["condition"].split()[0] for entry in result["conditions"]]
    there = {name for cell in result["cells"] for name in cell["ratios"]}
    names = [name for name in dict.fromkeys(asked or _COMPARED) if name in there]
    rows = [[cell["cell"], *(_ratio_of(cell["ratios"].get(name)) for name in names)] for cell in result["cells"]]
    return aligned(["new / old", *names], rows, "<" + ">" * len(names))


def _table(groups: Mapping[str, Sequence[Row]], pruned: str, on: Screen) -> list[str]:
    rows = [row for group in groups.values() for row in group]
    names = {id(row): _variant(row, pruned) for row in rows}
    cells = {column: [column.text(row) for row in rows] for column in _columns(rows, on.unicode)}
    widths = {column: max(len(column.header), *map(len, texts)) for column, texts in cells.items() if any(texts)}
    room = on.width - 7  # for name, bar and columns; the rest is space between them, and the marks
    name_width = min(max(_NAMES[0], *map(len, names.values())), _NAMES[1], max(_NAMES[0], room // 3))
    shown = _fitting(widths, room - name_width - _BARS[0])
    left = room - sum(widths[column] + 2 for column in shown)
    bar_width = max(_BARS[0], min(_BARS[1], left - name_width))
    name_width = max(_NAMES[0], min(name_width, left - bar_width))
    headers = "".join(f"  {column.header:>{widths[column]}}" for column in shown)
    lines = [(" " * (2 + name_width + 2 + bar_width) + headers).rstrip()]
    place = 0
    for title, group in groups.items():
        longest = max(row["p50_ms"] for row in group)
        lines.append(title)
        for row in group:
            bar = _bar(row["p50_ms"] / longest if longest else 0.0, bar_width, on.unicode)
            texts = "".join(f"  {cells[column][place]:>{widths[column]}}" for column in shown)
            name = _short(names[id(row)], name_width)
            lines.append(f"  {name:<{name_width}}  {bar}{texts} {_mark(row)}".rstrip())
            lines += _rates(row)
            place += 1
    return lines


def _columns(rows: Sequence[Row], unicode: bool) -> tuple[_Column, ...]:
    bases = {row["baseline"] for row in rows if row.get("baseline")}
    versus = f"of {bases.pop()}" if len(bases) == 1 else "ratio"
    return (
        _Column("p50 ms", 0, lambda row: _ms(row["p50_ms"])),
        _Column("±" if unicode else "+-", 3, _half_width),
        _Column("p99 ms", 4, lambda row: _ms(row.get("p99_ms"))),
        _Column(_short(versus, 16), 1, lambda row: "" if row.get("ratio") is None else f"{row['ratio']:.2f}x"),
        _Column("95 %", 6, _interval),
        _Column("images/s", 2, lambda row: _number(row.get("throughput_images_per_s"), 1)),
        _Column("file MB", 5, lambda row: _number(row.get("file_bytes"), 2, 1e6)),
        _Column("peak MB", 7, lambda row: _number(row.get("run_peak_rss_bytes"), 0, 1e6)),
    )


def _fitting(widths: Mapping[_Column, int], room: int) -> list[_Column]:
    """The columns that fit, in their order: the most important first in."""
    chosen: set[_Column] = set()
    for column in sorted(widths, key=lambda item: item.rank):
        if widths[column] + 2 > room:
            break
        room -= widths[column] + 2
        chosen.add(column)
    return [column for column in widths if column in chosen]


def _bar(share: float, width: int, unicode: bool) -> str:
    """A bar of `share` of the width, padded with blanks; something of it is always seen."""
    if not unicode:
        return f"{'#' * max(1, round(share * width)):<{width}}"
    eighths = max(1, round(share * width * 8))
    return f"{'█' * (eighths // 8) + _EIGHTHS[eighths % 8].strip():<{width}}"


def _setting(row: Row) -> str:
    parts = [f"{row['backend']} on {row['device']}", f"batch {row['batch']}"]
    if row["threads"] is not None:
        parts.append(f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}")
    if (row.get("streams") or 1) > 1:
        parts.append(f"{row['streams']} streams")
    return ", ".join(parts)


def _variant(row: Row, pruned: str) -> str:
    name = pruned if row["variant"] == "sparse" else row["variant"]
    return name if row.get("precision") in (None, "fp32") else f"{name} {row['precision']}"


def _mark(row: Row) -> str:
    noise = str(row.get("noise") or "steady")
    return (_NOISY if noise.startswith("noisy") else "") + (_FEW if _RESTS in noise else "")


def _legend(rows: Iterable[Row]) -> list[str]:
    """What the marks mean, in the words of the first row that has each."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for mark in _mark(row):
            words = str(row["noise"])
            said.setdefault(mark, []).append(words if mark == _NOISY else words.rsplit("; ", 1)[-1])
    return [
        f"{mark} {found[0]}" + (f" (and {len(found) - 1} more; --json says which)" if len(found) > 1 else "")
        for mark, found in sorted(said.items(), reverse=True)
    ]


def _skipped(rows: Iterable[Row], pruned: str) -> list[str]:
    """Cells that were not measured; those that share a reason share a line."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        where = f"{row['backend']} on {row['device']}" if row["batch"] is None else _setting(row)
        names = found.setdefault((where, str(row["reason"])), [])
        if (name := _variant(row, pruned)) not in names:
            names.append(name)
    return [f"{where}, {', '.join(names)}: skipped, {reason}" for (where, reason), names in found.items()]


def _rates(row: Row) -> list[str]:
    """Of the mode `server`: what happened at each rate."""
    lines = [
        f"      {rate['rate']:g}/s offered: p50 {_ms(rate['p50_ms'])} ms, p99 {_ms(rate['p99_ms'])} ms, "
        f"{rate['served_per_s']:.1f}/s served"
        for rate in row.get("server") or ()
    ]
    rate, ended = row.get("max_rate_images_per_s"), row.get("max_rate_ended")
    if rate is not None:
        lines.append(f"      the limit holds up to {rate:.1f}/s{f' ({ended})' if ended else ''}")
    elif ended:
        lines.append(f"      no rate was found that holds the limit ({ended})")
    return lines


def _half_width(row: Row) -> str:
    low, high = row.get("ci_low_ms"), row.get("ci_high_ms")
    return "" if low is None or high is None else _ms((high - low) / 2)


def _interval(row: Row) -> str:
    low, high = row.get("ratio_low"), row.get("ratio_high")
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _ratio_of(ratio: Row | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio['value']:.3f}" + (
        "" if ratio["low"] == ratio["high"] else f" ({ratio['low']:.3f} to {ratio['high']:.3f})"
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.{3 if value < 100 else 1}f}"


def _number(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "" if value is None else f"{value / unit:.{digits}f}"


def _short(name: str, width: int) -> str:
    """The name with its middle left out where it is too long: both ends tell networks apart."""
    if len(name) <= width:
        return name
    head = (width - 2) // 2
    return f"{name[:head]}..{name[len(name) - (width - 2 - head) :]}"
