"""The report of one run: everything it showed, as a `Document`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ntksap_export.report import charts, engine, facts, graph, latency, nodes, recovery, search, tables
from ntksap_export.report.cells import measured_cells, skipped_cells
from ntksap_export.report.document import (
    Bullets,
    Code,
    Document,
    Facts,
    Folded,
    Json,
    Part,
    Section,
    Table,
    Words,
    figures,
    finite,
    plain,
    source_text,
)
from ntksap_export.report.inputs import ReportInput, at
from ntksap_export.report.text import milliseconds, number, percent
from ntksap_export.report.verdict import HEADINGS, span_words, sparsity_of, theory_words, training_words, verdict

RAW_LIMIT_BYTES = 200_000
"""A larger JSON source is embedded without the raw times of each run and without the nodes of each graph."""


def document(data: ReportInput) -> Document:
    """Every section of the report; parts that are empty say that they were not run."""
    lines = verdict(data)
    every_node = nodes.node_table(data.profile)
    return Document(
        kicker="ntksap-export report",
        title=_title(data),
        lines=tuple(zip(HEADINGS, lines, strict=True)),
        tiles=tuple(facts.tiles(data)),
        sections=tuple(
            Section(name, title, make(data)) for name, title, make in _SECTIONS if name not in _OPTIONAL or make(data)
        ),
        files=(every_node,) if every_node else (),
        source=_source(data),
    )


def _title(data: ReportInput) -> str:
    name = str(at(data.config, "architecture", default="network"))
    sparsity = sparsity_of(data)
    return name if sparsity is None else f"{name} at {percent(sparsity)} sparsity"


def _absent(words: str) -> tuple[Part, ...]:
    return (Words(words, "absent"),)


def _rows(table: Table | None) -> tuple[Table, ...]:
    return (table,) if table and table.rows else ()


def _note(words: str) -> tuple[Part, ...]:
    return (Words(words, "note"),) if words else ()


def _run(data: ReportInput) -> tuple[Part, ...]:
    rows, flags = facts.run_rows(data), facts.flag_rows(data)
    shown: tuple[Part, ...] = (Facts(tuple(rows)),) if rows else _absent("No settings were recorded.")
    return (*shown, *((Folded("All resolved settings", (Facts(tuple(flags)),)),) if flags else ()))


def _search(data: ReportInput) -> tuple[Part, ...]:
    said = tuple(search.said(data.mask))
    if not said:
        return ()
    return (Bullets(said), *figures(search.accuracy_figure(data.mask)), *_rows(search.rounds_table(data.mask)))


def _training(data: ReportInput) -> tuple[Part, ...]:
    if not data.metrics:
        return _absent("Not run: there is no training in this run.")
    pictures = figures(
        charts.history(data.metrics, "accuracy", "Top-1 accuracy by epoch.", "top-1 accuracy, %", 100),
        charts.history(data.metrics, "loss", "Loss by epoch.", "cross-entropy, nats"),
    )
    table = _rows(tables.history_table(data.metrics))
    folded = (Folded("Every epoch", table),) if table else ()
    notes = (*_note(training_words(data)), *_note(" ".join(recovery.said(data.metrics))))
    return (*notes, *(pictures or _absent("No history by epoch was recorded.")), *folded)


def _layers(data: ReportInput) -> tuple[Part, ...]:
    table = tables.layer_table(data.mask)
    if not table.rows:
        return _absent("Not run: there is no mask in this run.")
    folded = Folded(f"The same as a table ({len(table.rows)} layers)", (table,))
    return (*figures(*charts.layer_figures(data.mask), level=True), folded)


def _health(data: ReportInput) -> tuple[Part, ...]:
    health = at(data.mask, "health", default={})
    if not health:
        return _absent("Not run: the mask was not examined.")
    advice = tuple(map(str, at(health, "advice", default=[])))
    said: Part = Bullets(advice, advice=True) if advice else Words("The mask gives no cause for advice.")
    return (Facts(tuple(facts.health_rows(health)), wide=True), said)


def _latency(data: ReportInput) -> tuple[Part, ...]:
    table = tables.latency_table(data)
    if not table.rows:
        tried = bool(at(data.profile, "cells"))
        return _absent(
            "Nothing could be measured; the reasons stand below." if tried
            else "Not run: there is no profile in this run."
        )  # fmt: skip
    said = " ".join(part for part in (span_words(data), theory_words(data)) if part)
    shapes = [figure for figure in latency.distributions(data) if figure]
    noise, gpu, told = _rows(tables.noise_table(data)), _rows(tables.gpu_table(data)), _method(data)
    return (
        *((Words(said),) if said else ()),
        *figures(*latency.overview(data)),
        *figures(*shapes[:1], charts.throughput_figure(data)),
        *(
            (Folded(f"Distributions of the other settings ({len(shapes) - 1})", figures(*shapes[1:])),)
            if shapes[1:]
            else ()
        ),
        table,
        *((Folded("What the verdicts of noise rest on", noise),) if noise else ()),
        *((Folded("The GPU while it was measured", gpu),) if gpu else ()),
        *((Folded("How it was measured", told),) if told else ()),
    )


def _method(data: ReportInput) -> tuple[Part, ...]:
    settings = at(data.profile, "settings", default={})
    return (Facts(tuple((key.replace("_", " "), plain(value)) for key, value in settings.items())),) if settings else ()


def _load(data: ReportInput) -> tuple[Part, ...]:
    table = tables.server_table(data)
    if table is None:
        return ()
    limit = milliseconds(at(data.profile, "settings", "limit_ms"))
    found = []
    for cell in measured_cells(data.profile):
        ended = at(cell, "max_rate_search", "ended", default="")
        why = f" ({ended})" if ended else ""
        if at(cell, "max_rate") is not None:
            rate = number(at(cell, "max_rate"))
            found.append(f"{tables.cell_words(cell, data)}: p99 stays within {limit} up to {rate} images/s{why}.")
        elif ended:
            found.append(f"{tables.cell_words(cell, data)}: no rate was found at which p99 stays within {limit}{why}.")
    return (*figures(*latency.under_load(data)), *((Bullets(tuple(found)),) if found else ()), table)


def _memory(data: ReportInput) -> tuple[Part, ...]:
    table = _rows(tables.memory_table(data))
    if not table:
        return _absent("Not run: no peak RSS was measured.")
    note = _note(
        "RSS counts the whole process, with the runtime and its libraries; each cell has a process of its own."
    )
    return (*figures(*charts.memory_figures(data)), *note, *table)


def _sizes(data: ReportInput) -> tuple[Part, ...]:
    if not data.sizes:
        return _absent("Not run: no file was written.")
    return (*figures(charts.sizes_figure(data)), tables.sizes_table(data.sizes))


def _nodes(data: ReportInput) -> tuple[Part, ...]:
    table, left = nodes.layer_time_table(data), nodes.skipped(data)
    if table is None:
        told = (Bullets(tuple(left)),) if left else ()
        return (*_absent("Not measured: profile with --per-layer for the time of each layer and the roofline."), *told)
    said = [*nodes.totals(data), *left]
    return (
        *figures(nodes.time_figure(data), nodes.roofline(data)),
        *((Bullets(tuple(said)),) if said else ()),
        Folded(f"The same as a table ({len(table.rows)} layers)", (table,)),
        *_note("Every node of every setting that was timed stands in nodes.csv beside this page."),
    )


def _parity(data: ReportInput) -> tuple[Part, ...]:
    if not data.parity:
        return _absent("Not run: no graph was compared.")
    agreement = f"top-1 agreement {percent(at(data.parity, 'top1_agreement'))}."
    if at(data.parity, "passed"):
        verdict = Words(f"The exported graph agrees with the model within atol and rtol; {agreement}")
    else:
        verdict = Words(f"The exported graph does not agree with the model; {agreement}", "bad")
    removed, preparation = graph.compaction(data.parity), graph.preparation(data)
    said = f"Removed from it, exactly, because the mask emptied it: {removed}." if removed else ""
    more = tuple(Words(words) for words in (preparation, said) if words)
    return (verdict, *more, *_rows(tables.parity_table(data.parity)))


def _precision(data: ReportInput) -> tuple[Part, ...]:
    table = _rows(tables.precision_table(data.parity))
    if not table:
        return ()
    notes = tuple(facts.precision_notes(data.parity))
    said = _note("Before is model.onnx, both over every validation image in onnxruntime.")
    return (*table, *said, *((Bullets(notes),) if notes else ()))


def _engine(data: ReportInput) -> tuple[Part, ...]:
    said = tuple(engine.said(data.parity))
    left = _rows(engine.left_table(data.parity))
    folded = (Folded(f"Nodes that stay with onnxruntime ({len(left[0].rows)})", left),) if left else ()
    return (Bullets(said), *folded) if said else ()


def _skipped(data: ReportInput) -> tuple[Part, ...]:
    if skipped_cells(data.profile):
        return (tables.skipped_table(data),)
    return (Words("Nothing was skipped."),) if at(data.profile, "cells") else _absent("Nothing was tried.")


def _environment(data: ReportInput) -> tuple[Part, ...]:
    rows = facts.environment_rows(data.profile, data.versions)
    return (Facts(tuple(rows)),) if rows else _absent("Not recorded.")


def _repeat(data: ReportInput) -> tuple[Part, ...]:
    commands = list(dict.fromkeys(c for c in (data.command, str(at(data.profile, "command", default=""))) if c))
    return (Code("\n".join(commands)),) if commands else _absent("The command was not recorded.")


_SECTIONS = (
    ("run", "Run", _run),
    ("search", "Search", _search),
    ("training", "Training", _training),
    ("layers", "Density and FLOP share by layer", _layers),
    ("health", "Mask health", _health),
    ("latency", "Latency and throughput", _latency),
    ("load", "Under load", _load),
    ("memory", "Memory", _memory),
    ("sizes", "Sizes on disk", _sizes),
    ("nodes", "Time by layer and roofline", _nodes),
    ("parity", "Parity", _parity),
    ("precision", "Precision", _precision),
    ("engine", "Sparse engine", _engine),
    ("skipped", "Skipped", _skipped),
    ("environment", "Environment", _environment),
    ("repeat", "Repeat", _repeat),
)
_OPTIONAL = frozenset({"search", "load", "precision", "engine"})


def _source(data: ReportInput) -> Json:
    """The whole input; without its longest lists where it is large."""
    tree: dict[str, Any] = finite(asdict(data))
    if len(source_text(tree)) > RAW_LIMIT_BYTES:
        for cell in at(tree, "profile", "cells", default=[]):
            cell.pop("times_ms", None)
            cell.pop("slice_of", None)
        for entry in at(tree, "profile", "layers", default=[]):
            entry.pop("nodes", None)
    return tree
