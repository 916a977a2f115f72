"""sweep.html: accuracy against latency, size and memory of every cell, with the front and the chosen point."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ntksap_export.report.document import (
    Bullets,
    Code,
    Column,
    Document,
    Facts,
    Figure,
    Part,
    Section,
    Table,
    Words,
    figures,
    plain,
)
from ntksap_export.report.facts import environment_rows
from ntksap_export.report.inputs import Json, at
from ntksap_export.report.page import to_html
from ntksap_export.report.text import milliseconds, number, percent, plural, size
from ntksap_export.report.tradeoff import Measure, Point, tradeoff

LATENCY = Measure("latency", "latency p50, ms", 1.0, milliseconds)
SIZE = Measure("size", "size of the graph, MB", 1e-6, size)
MEMORY = Measure("memory", "peak RSS while running, MB", 1e-6, size)
_CELL = ("dir", "model", "method", "pattern", "sparsity")
_COLUMNS = (  # what a reader looks for comes first: narrow pages cut what comes last
    Column("method", "method", words=True),
    Column("pattern", "pattern", words=True),
    Column("sparsity", "sparsity", percent),
    Column("precision", "precision", words=True),
    Column("accuracy", "accuracy", percent),
    Column("p50 ms", "p50_ms", number),
    Column("from", "p50_low_ms", number),
    Column("to", "p50_high_ms", number),
    Column("size", "size_bytes", size),
    Column("peak RSS", "run_peak_rss_bytes", size),
    Column("front", "on_front", words=True),
    Column("chosen", "chosen", words=True),
    Column("backend", "backend", words=True),
    Column("device", "device", words=True),
    Column("batch", "batch"),
    Column("threads", "threads"),
    Column("variant", "variant", words=True),
    Column("model", "model", words=True),
    Column("directory", "dir", words=True),
)


def render_sweep(tree: Json) -> str:
    """The page of a `sweep.json`; cells that were skipped stand with their reasons."""
    return to_html(document(tree))


def document(tree: Json) -> Document:
    """What the page says, for any of its forms."""
    points = _points(tree)
    models = sorted({str(point.facts.get("model") or "network") for point in points} or {"network"})
    cells = at(tree, "cells", default=[])
    return Document(
        kicker="ntksap-export sweep",
        title=f"Sweep of {', '.join(models)}: {plural(len(cells), 'cell')}",
        lines=_lines(tree, points, cells),
        sections=(
            Section("tradeoffs", "Accuracy against cost", _pictures(tree, points)),
            Section("points", "All points", _table(points)),
            Section("skipped", "Skipped", _skipped(tree)),
            Section("axes", "What was swept", _axes(tree)),
            Section("environment", "Environment", _environment(tree)),
            Section("repeat", "Repeat", _command(tree)),
        ),
        source=tree,
    )


def _points(tree: Json) -> list[Point]:
    chosen = at(tree, "chosen")
    found = []
    for cell in at(tree, "cells", default=[]):
        for point in at(cell, "points", default=[]):
            low, high = at(point, "ci_ms") or (None, None)
            facts = {key: cell.get(key) for key in _CELL} | {key: v for key, v in point.items() if key != "ci_ms"}
            facts |= {"p50_low_ms": low, "p50_high_ms": high, "chosen": _is_chosen(chosen, cell, point)}
            if not facts.get("sparsity") or facts.get("variant") != "dense":  # a dense twin was not trained
                facts.setdefault("accuracy", cell.get("accuracy"))
            found.append(_point(facts))
    return found


def _point(facts: Json) -> Point:
    interval = (facts["p50_low_ms"], facts["p50_high_ms"])
    share = facts.get("sparsity")
    dense = facts.get("variant") == "dense" or share == 0
    return Point(
        series=_series(facts, dense),
        shape=_graph(facts),
        label="dense" if dense else percent(share).replace(".0 %", " %") if share is not None else "",
        title=_title(facts),
        accuracy=facts.get("accuracy"),
        costs={
            "latency": facts.get("p50_ms"),
            "size": facts.get("size_bytes"),
            "memory": facts.get("run_peak_rss_bytes"),
        },
        spread=interval if None not in interval else None,
        chosen=bool(facts["chosen"]),
        facts=facts,
    )


def _graph(facts: Json) -> str:
    """Which of a network's graphs it is."""
    return "sparse engine" if facts.get("variant") == "engine" else str(facts.get("precision") or "fp32")


def _series(facts: Json, dense: bool) -> str:
    parts = ["dense"] if dense else [str(facts[key]) for key in ("method", "pattern") if facts.get(key)]
    return ", ".join(parts) or "network"


def _title(facts: Json) -> str:
    words = [str(facts["model"])] if facts.get("model") else []
    if facts.get("sparsity") == 0 or facts.get("variant") == "dense":
        words.append("dense")
    else:
        words += [str(facts[key]) for key in ("method", "pattern") if facts.get(key)]
        words += [f"sparsity {percent(facts['sparsity'])}"] if facts.get("sparsity") is not None else []
    words += [_graph(facts)] if facts.get("precision") else []
    numbers = f"accuracy {percent(facts.get('accuracy'))}, {milliseconds(facts.get('p50_ms'))}"
    return f"{', '.join(words)}: {numbers}, {size(facts.get('size_bytes'))}"


def _is_chosen(chosen: Any, cell: Json, point: Json) -> bool:
    """Whether what `chosen` says of itself holds of this point, as far as both name it."""
    if not isinstance(chosen, dict):
        return False
    own = {**cell, **point}
    keys = ("dir", "variant", "precision", "backend", "device", "batch", "threads")
    named = [key for key in keys if key in chosen and key in own]
    return "dir" in named and all(chosen[key] == own[key] for key in named)


def limit_of(tree: Json, name: str) -> float | None:
    """The number of the limit whose key names `latency`, `size`, `memory` or `accuracy`."""
    for key, value in at(tree, "limits", default={}).items():
        if name in key and isinstance(value, int | float):
            return float(value)
    return None


def _pictures(tree: Json, points: list[Point]) -> tuple[Part, ...]:
    if not points:
        return (Words("No cell was measured.", "absent"),)
    made: list[Figure | None] = []
    floor, series = limit_of(tree, "accuracy"), [point.series for point in points]
    for place, here in _by_place(points).items():
        made += [
            tradeoff(here, measure, where=place, limit=limit_of(tree, measure.name), floor=floor, series=series)
            for measure in (LATENCY, MEMORY)
        ]
    once = {(p.facts.get("dir"), p.facts.get("variant"), p.facts.get("precision")): p for p in reversed(points)}
    files = list(once.values())[::-1]
    made.append(tradeoff(files, SIZE, where="", limit=limit_of(tree, "size"), floor=floor, series=series))
    note = (
        "The line is the front: no point is both more accurate and cheaper than one on it. A ring marks the chosen "
        "point, dotted lines the limits; a thin bar is the 95 % interval of the median."
    )
    return (Words(note, "note"), *figures(*made))


def _by_place(points: Iterable[Point]) -> dict[str, list[Point]]:
    places: dict[str, list[Point]] = {}
    for point in points:
        facts = point.facts
        words = [str(facts[key]) for key in ("backend", "device") if facts.get(key)]
        words += [f"batch {facts['batch']}"] if facts.get("batch") is not None else []
        words += [plural(int(facts["threads"]), "thread")] if facts.get("threads") is not None else []
        places.setdefault(", ".join(words), []).append(point)
    return places


def _table(points: list[Point]) -> tuple[Part, ...]:
    if not points:
        return (Words("There are none.", "absent"),)
    rows = tuple(tuple(point.facts.get(column.key) for column in _COLUMNS) for point in points)
    return (
        Table("points", "One row a point; accuracy is top-1 on the validation images", _COLUMNS, rows).without_empty(),
    )


def _skipped(tree: Json) -> tuple[Part, ...]:
    """Cells without a network, and places where nothing could be measured."""
    left = [c for c in at(tree, "cells", default=[]) if at(c, "reason") or at(c, "status") in ("skipped", "failed")]
    places = at(tree, "skipped", default=[])
    if not left and not places:
        return (Words("Nothing was skipped."),)
    columns = (
        *(Column(key, key, percent if key == "sparsity" else plain, words=True) for key in _CELL),
        *(Column(key, key, words=True) for key in ("backend", "device", "batch", "threads", "status")),
        Column("why", "reason", words=True),
    )
    rows = tuple(tuple(cell.get(column.key) for column in columns) for cell in (*left, *places))
    return (Table("skipped", "What was not measured", columns, rows).without_empty(),)


def _lines(tree: Json, points: list[Point], cells: list[Json]) -> tuple[tuple[str, str], ...]:
    measured = sum(bool(at(cell, "points")) for cell in cells)
    swept = f"{measured} of {plural(len(cells), 'cell')} measured, {plural(len(points), 'point')}."
    return (
        ("What was swept", swept),
        ("Most accurate", _best(points)),
        ("Chosen", _choice(tree, points)),
    )


def _best(points: list[Point]) -> str:
    known = [point for point in points if point.accuracy is not None]
    if not known:
        return "Accuracy was not measured."
    pruned = [point for point in known if point.label != "dense"]
    dense = [point for point in known if point.label == "dense"]
    shown = [max(some, key=_merit).title for some in (pruned, dense) if some]
    return "; ".join(shown) + "."


def _merit(point: Point) -> tuple[float, float]:
    return point.accuracy or 0.0, -(point.costs["latency"] or 0.0)


def _choice(tree: Json, points: list[Point]) -> str:
    limits = "; ".join(
        _limit_words(key, value) for key, value in at(tree, "limits", default={}).items() if value is not None
    )
    marked = next((point for point in points if point.chosen), None)
    if marked:
        return f"{marked.title}" + (f", under {limits}." if limits else ".")
    if told := at(tree, "verdict"):
        return f"{str(told)[:1].upper()}{str(told)[1:]}."
    return f"No point meets {limits}." if limits else "No limit was given, so no point was chosen."


def _limit_words(key: str, value: Any) -> str:
    name = key.replace("_", " ").removesuffix(" ms").removesuffix(" bytes")
    if isinstance(value, str):
        return f"{name} {value}"
    form = milliseconds if "latency" in key else percent if "accuracy" in key else size
    return f"{name} {form(float(value))}"


def _axes(tree: Json) -> tuple[Part, ...]:
    rows = tuple((str(key), plain(value)) for key, value in at(tree, "axes", default={}).items())
    return (Facts(rows),) if rows else (Words("Not recorded.", "absent"),)


def _environment(tree: Json) -> tuple[Part, ...]:
    rows = environment_rows(tree, {})
    return (Facts(tuple(rows)),) if rows else (Words("Not recorded.", "absent"),)


def _command(tree: Json) -> tuple[Part, ...]:
    command = str(at(tree, "command", default=""))
    note = Bullets(("The same command again goes on where an interrupted one stopped.",))
    return (Code(command), note) if command else (Words("The command was not recorded.", "absent"),)
