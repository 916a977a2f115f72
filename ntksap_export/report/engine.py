"""What a report says of model.sparse.onnx: what the sparse engine runs of the network, and how it is run."""

from __future__ import annotations

from ntksap_export.report.document import Column, Table
from ntksap_export.report.inputs import Json, at
from ntksap_export.report.text import count, milliseconds, percent, plural, times


def said(parity: Json) -> list[str]:
    """Sentences: whether it is there, how much of the network the engine runs, and how fast at the export."""
    entry = at(parity, "engine", default={})
    if not entry:
        return []
    found = [f"{at(entry, 'problem')}."] if at(entry, "problem") else []
    if (regions := at(entry, "regions")) is not None:
        left, nodes = len(at(entry, "left", default=[])), int(at(entry, "nodes", default=0))
        found.append(
            f"The engine runs {count(nodes - left)} of {plural(nodes, 'node')} in {plural(int(regions), 'region')}, "
            f"{percent(at(entry, 'macs_share'))} of the {_counted(entry)}; onnxruntime runs the rest."
        )
    return [*found, *_speed(at(entry, "speed", default={}))]


def _counted(entry: Json) -> str:
    uncounted = at(entry, "uncounted", default=[])
    macs = "multiply-accumulates"
    return f"counted {macs} ({', '.join(uncounted)}: not counted)" if uncounted else macs


def _speed(speed: Json) -> list[str]:
    own, plain = at(speed, "p50_ms"), at(speed, "plain_p50_ms")
    if not own or not plain:
        return []
    batch, threads = at(speed, "batch", default=1), plural(int(at(speed, "threads", default=1)), "thread")
    where = f"batch {batch}, {threads}, a short comparison"
    numbers = f"{milliseconds(own)} against {milliseconds(plain)} of model.onnx ({where})"
    if own > plain:
        return [f"At the export it was slower, {numbers}: use model.onnx."]
    return [f"At the export it took {numbers}: {times(plain / own)}."]


def left_table(parity: Json) -> Table:
    """One row a node that stays with onnxruntime, and why."""
    columns = (
        Column("node", "node", words=True),
        Column("operator", "op_type", words=True),
        Column("why", "reason", words=True),
    )
    rows = tuple(
        tuple(str(at(item, column.key, default="")) for column in columns)
        for item in at(parity, "engine", "left", default=[])
    )
    return Table("engine", "Nodes that stay with onnxruntime", columns, rows)


def judged(parity: Json) -> str:
    """`passed`, `FAILED`, or nothing where there is none."""
    entry = at(parity, "engine", default={})
    return "" if not entry else "passed" if at(entry, "passed") else "FAILED"
