"""The tables of engine.py, from the rows of its results alone: for engine.txt, and for the docs between marks.

    <!-- engine:NAME -->
    ...
    <!-- /engine -->

Free of torch: a test holds the docs to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import marked
from engine_text import (
    Row,
    cases,
    cell_of,
    label,
    measured,
    megabytes,
    ms,
    named,
    of,
    one,
    peak,
    ratio_of,
    ready,
    share,
    speed_up,
    verdict,
)
from marked import aligned

OTHERS = ("openvino f32", "openvino bf16")
RUNTIMES = ("onnxruntime", "engine", *OTHERS)


def text(rows: Sequence[Row]) -> str:
    """All of it, for engine.txt."""
    parts = [head(rows)]
    titles = {
        "targets": "ResNet-50 at 224 x 224 beside the targets: times as fast as onnxruntime on the same network",
        "full": "All networks",
        "memory": "Memory, files, and the time to get ready",
        "openvino": "Beside OpenVINO",
        "layers": "Layers, batch 1",
    }
    for name, render in TABLES.items():
        if found := render(rows):
            parts.append(f"## {titles[name]}\n\n{found}")
    doubts = noise(rows)
    return "\n\n".join([*parts, *(["## Doubts\n\n" + "\n".join(doubts)] if doubts else [])])


def fill(document: str, rows: Sequence[Row]) -> str:
    """A document with its tables as the rows have them.

    Raises:
        KeyError: a mark names no table.
    """
    return marked.fill(document, "engine", TABLES, rows)


def head(rows: Sequence[Row]) -> str:
    """How it was measured."""
    setup = one(rows, "setup")
    cells = [row for row in of(rows, "cell") if row["status"] == "measured"]
    runs, turns = ([row[key] for row in cells] or [0] for key in ("runs", "slices"))
    return (
        f"engine on {setup['isa']} (ABI {setup['abi']}), the CPU has {', '.join(setup['cpu_isa'])}; "
        f"{setup['threads']} threads; {len(cells)} cells, each in a process of its own that is stopped between its "
        f"turns, {min(turns)} to {max(turns)} turns and {min(runs)} to {max(runs)} runs of each, "
        f"{setup['seconds']} s in all. Untrained networks; kept weights are scaled by the density of their layer, "
        "BatchNorm's statistics are drawn around their neutral values. Times are medians ± half of the 95 % interval; "
        "speed-ups are ratios of medians of turns that were taken side by side, with 95 % intervals."
    )


def targets(rows: Sequence[Row]) -> str:
    """The table that was asked for: ResNet-50, engine against onnxruntime, beside what it was to reach."""
    lines = []
    for row in of(rows, "network"):
        if row.get("target"):
            both = [cell_of(rows, row["network"], "engine", batch) for batch in (1, 16)]
            beside = [
                field
                for found, target in zip(both, row["target"], strict=True)
                for field in (speed_up(found), f"{target:.1f}x{verdict(found, target)}")
            ]
            lines.append([row["mask"], share(row["flop_density"]), *beside])
    return aligned(["mask", "FLOPs left", "batch 1", "target", "batch 16", "target"], lines, words=1)


def full(rows: Sequence[Row]) -> str:
    """Every network at every batch, and how many of the cells are noisy."""
    lines = []
    for row, batch in cases(rows):
        plain, mine = (cell_of(rows, row["network"], name, batch) for name in ("onnxruntime", "engine"))
        facts = [share(row["density"]), share(row["flop_density"]), str(batch)]
        error = row["errors"].get("engine")
        lines.append(
            [*named(row), *facts, ms(plain), ms(mine), speed_up(mine), "-" if error is None else f"{error:.0e}"]
        )
    heads = ["network", "mask", "weights left", "FLOPs left", "batch", "onnxruntime ms", "engine ms", "speed-up"]
    table = aligned([*heads, "largest error"], lines, words=2)
    skipped = [f"- {row['network']} is missing: {row['skipped']}" for row in of(rows, "network") if "skipped" in row]
    left = [
        f"- {label(rows, row['network'])}: onnxruntime keeps {item}" for row in measured(rows) for item in row["left"]
    ]
    cells = [row for row in of(rows, "cell") if row["status"] == "measured"]
    noisy = sum(row["noise"].startswith("noisy") for row in cells)
    note = (
        "The error is the largest difference of a logit from onnxruntime without graph optimization, over batch 1 and "
        f"16, as a share of the largest logit. {noisy} of {len(cells)} cells are noisy; benchmarks/results/engine.txt "
        "names them."
    )
    return "\n".join([table, "", note, *skipped, *left]) if lines or skipped else ""


def memory(rows: Sequence[Row]) -> str:
    """Peak RSS of the measuring processes, sizes of files, and the time until the first answer."""
    peaks, times = [], []
    for row, batch in cases(rows):
        found = [cell_of(rows, row["network"], name, batch) for name in RUNTIMES]
        most = [peak(each) for each in found]
        ratio = f"{most[1] / most[0]:.2f}x" if most[0] and most[1] else "-"
        files = [megabytes(row["file_bytes"][name]) for name in ("onnxruntime", "engine")]
        peaks.append([*named(row), str(batch), *map(megabytes, most), ratio])
        times.append([*named(row), str(batch), *files, *map(ready, found)])
    if not peaks:
        return ""
    heads = ["network", "mask", "batch"]
    files = ["model.onnx MB", "model.sparse.onnx MB"]
    tables = [
        aligned([*heads, *(f"{name} peak MB" for name in RUNTIMES), "engine / onnxruntime"], peaks, words=2),
        aligned([*heads, *files, *(f"{name} ready ms" for name in RUNTIMES)], times, words=2),
    ]
    note = (
        "Peak RSS is of the whole process, from the loaded network on. Ready: opened and called for the first time, "
        "the engine's packing and choosing of kernels included; once for each cell, the file in the page cache."
    )
    return "\n\n".join([*tables, note])


def openvino(rows: Sequence[Row]) -> str:
    """The engine beside OpenVINO in f32 and bf16, and in words which is faster where."""
    lines = []
    for row, batch in cases(rows):
        mine = cell_of(rows, row["network"], "engine", batch)
        texts = [*named(row), str(batch), ms(mine)]
        for other in OTHERS:
            error = row["errors"].get(other)
            texts += [ms(cell_of(rows, row["network"], other, batch)), speed_up(mine, other)]
            texts += ["-" if error is None else f"{error:.0e}"]
        lines.append(texts)
    heads = ["network", "mask", "batch", "engine ms"]
    for other in OTHERS:
        heads += [f"{other} ms", f"engine against {other.split()[-1]}", "error"]
    return f"{aligned(heads, lines, words=2)}\n\n{in_words(rows)}" if lines else ""


def in_words(rows: Sequence[Row]) -> str:
    """Which is faster where; what the intervals do not tell apart is said to be so."""
    sentences = []
    for other in OTHERS:
        for batch in dict.fromkeys(batch for _, batch in cases(rows)):
            if found := sides(rows, other, batch):
                sentences.append(f"- Batch {batch}, against {other}: the engine is {found}.")
    if not sentences:
        return "OpenVINO was not measured."
    isa = one(rows, "setup")["cpu_isa"]
    units = "AMX" if "amx_bf16" in isa else "AVX-512 BF16 (no AMX)" if "avx512_bf16" in isa else None
    how = f"runs on {units}" if units else "has no instructions of its own"
    return "\n".join([*sentences, f"- bf16 {how} on this CPU; its logits are off by the error in the table."])


def sides(rows: Sequence[Row], other: str, batch: int) -> str:
    """Where the engine is faster, where the other is the better choice, and where the intervals hold 1."""
    found: dict[str, list[str]] = {"faster on": [], f"slower, so that {other} is to be taken, on": [], "level on": []}
    for row in measured(rows):
        ratio = ratio_of(cell_of(rows, row["network"], "engine", batch), other)
        if ratio is not None:
            names = list(found.values())[0 if ratio[2] < 1 else 1 if ratio[1] > 1 else 2]
            names.append(f"{label(rows, row['network'])} ({1 / ratio[0]:.2f}x)")
    return "; ".join(f"{side} {', '.join(names)}" for side, names in found.items() if names)


def layers(rows: Sequence[Row]) -> str:
    """The operators of the networks that were looked into, by stage; the peak that they are held to."""
    found = of(rows, "layers")
    if not found:
        return ""
    machine = one(rows, "machine")
    parts = [peak_words(machine)]
    for row in found:
        if "skipped" in row:
            parts.append(f"{label(rows, row['network'])}: not measured: {row['skipped']}")
            continue
        lines = list(stages(row["operators"], machine))
        heads = ["stage", "layers", "density", "MMACs left", "ms", "share of time", "GFLOP/s", "of peak"]
        heads += ["kernels", "farthest from the peak"]
        times = f"{row['threads']} threads, medians of {row['runs']} runs"
        parts.append(f"{label(rows, row['network'])}, {times}\n\n{aligned(heads, lines, words=1)}")
    return "\n\n".join(parts)


def peak_words(machine: Row) -> str:
    """What the layers are held to: the higher of the two, as the loop of FMAs may have met a busy machine."""
    fma, matmul = machine["fma_gflops"], machine["matmul_gflops"]
    loop = f"{fma:.0f} GFLOP/s by {machine['fma_method']}" if fma else f"not measured ({machine['fma_method']})"
    dense = f"{matmul:.0f} GFLOP/s" if matmul else "nothing that was measured"
    return (
        f"The FMA peak of {machine['threads']} threads is {loop}; onnxruntime's MatMul of large squares reaches "
        f"{dense}. Shares are of {best(machine):.0f} GFLOP/s. GFLOP/s count multiply-adds by weights that are not "
        "zero, as two each."
    )


def stages(operators: Sequence[Row], machine: Row) -> Iterator[list[str]]:
    """Convolutions and products by stage, what else there is, and all of it."""
    groups: dict[str, list[Row]] = {}
    for operator in operators:
        groups.setdefault(operator["module"].split(".")[0] if operator.get("module") else "other", []).append(operator)
    other = groups.pop("other", [])
    whole = sum(operator["us"] for operator in operators)
    for name, mine in groups.items():
        yield stage(name, mine, whole, machine)
    if other:
        yield stage("other", other, whole, machine)
    yield stage("all", operators, whole, machine)


def stage(name: str, operators: Sequence[Row], whole: float, machine: Row) -> list[str]:
    products = [operator for operator in operators if "macs" in operator]
    us, macs = (sum(operator.get(key, 0) for operator in operators) for key in ("us", "macs"))
    if not products:
        return [name, str(len(operators)), "-", "-", f"{us / 1e3:.3f}", share(us / whole), "-", "-", "-", "-"]
    dense = sum(operator["macs"] / operator["density"] for operator in products if operator["density"])
    worst = min(products, key=lambda operator: rate(operator["macs"], operator["us"]))
    reached, kinds = rate(macs, us), Counter(operator["kernel"].split(",")[0] for operator in products)
    return [
        name,
        str(len(products)),
        share(macs / dense) if dense else "-",
        f"{macs / 1e6:.1f}",
        f"{us / 1e3:.3f}",
        share(us / whole),
        f"{reached:.0f}",
        share(reached / best(machine)),
        ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
        f"{worst['module']}, {share(rate(worst['macs'], worst['us']) / best(machine))}",
    ]


def rate(macs: float, us: float) -> float:
    """Useful GFLOP/s."""
    return 2e-3 * macs / us if us else 0.0


def best(machine: Row) -> float:
    return max(machine["fma_gflops"] or 0.0, machine["matmul_gflops"] or 0.0)


def noise(rows: Sequence[Row]) -> list[str]:
    """Cells that are noisy, and those that were not measured, a line each."""
    lines = []
    for row in of(rows, "cell"):
        where = f"{label(rows, row['network'])} in {row['runtime']}, batch {row['batch']}"
        if row["status"] != "measured":
            lines.append(f"{where}: not measured: {row['reason']}")
        elif row["noise"].startswith("noisy"):
            lines.append(f"{where}: {row['noise']}")
    return lines


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "targets": targets,
    "full": full,
    "memory": memory,
    "openvino": openvino,
    "layers": layers,
}
