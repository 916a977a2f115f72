"""What the command line prints: plain text from plain data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ntksap_export.cli.columns import aligned
from ntksap_export.cli.profile_table import latency_table, screen
from ntksap_export.config import RunConfig, pruned_name
from ntksap_export.latency_budget import reached_text
from ntksap_export.quoting import printable

_LONGEST_NAME: Final = 120  # characters; --json has all of them


def greeting(config: RunConfig, out: Path) -> str:
    """The first lines of a run: what, where, and on which data."""
    then = "train" if config.weights is None else "fine-tune"
    lines = [f"prune {config.model} to {config.budget_text()} with {config.method}, {then}, export, measure -> {out}"]
    if config.data == "digits":
        lines.append(
            "data: the embedded sample `digits` (1,797 real handwritten digits, enlarged). Others by name or "
            "path: see `ntksap list data`, or --data FOLDER with train/CLASS/*.jpg and val/"
        )
    return "\n".join(lines)


def plan_text(plan: dict[str, Any], out: Path) -> str:
    """The plan of --dry-run."""
    data, settings = plan["data"], plan["config"]
    layers = [
        (layer["name"], sides_text(layer["shape"]), f"{layer['weights']:,}", f"{layer['macs']:,}")
        for layer in plan["layers"]
    ]
    images = f"{data['train_images']:,} training and {data['val_images']:,} validation images"
    lines = [
        f"plan for {out} (nothing is written)",
        "",
        "settings:",
        *(f"  {key} = {plain(value)}" for key, value in sorted(settings.items())),
        "",
        f"data: {data['name']}, {data['classes']} classes, {images}",
        "",
        *aligned(("layer", "shape", "weights", "MACs"), layers, "<>>>"),
        "",
        f"parameters {plan['parameters']:,}; prunable {plan['prunable_weights']:,}{_to_keep(plan['kept_weights'])}",
        f"dense FLOPs per image {plan['dense_flops']:,}{_to_keep(plan['kept_flops'])}",
        *(f"left whole: {layer} ({reason})" for layer, reason in plan["left_whole"].items()),
        "density after each round: " + " ".join(f"{density:.4f}" for density in plan["densities"]),
        f"device {plan['device']}, training in {plan['precision']}",
        "estimated time: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in plan["estimated_s"].items()),
        f"stages already finished there: {', '.join(plan['done']) or 'none'}",
        "files: " + ", ".join(plan["files"]),
    ]
    return "\n".join(lines)


def _to_keep(number: int | None) -> str:
    return "" if number is None else f"; to keep {number:,}"


def summary_text(result: dict[str, Any]) -> str:
    """The result of a run, short."""
    lines = [f"{result['model']} on {result['data']} in {result['out']}"]
    if "density" in result:
        lines.append(
            f"  mask      kept {result['kept']:,} of {result['weights']:,} weights, sparsity {result['sparsity']:.2%}, "
            f"FLOP density {result['flop_density']:.2%}"
        )
        if result["pattern"] != "unstructured":
            lines.append(f"  pattern   {result['pattern']}")
        if channels := result["channels"]:
            lines.append(f"  channels  kept {channels['kept']:,} of {channels['channels']:,}; see channels.json")
        if told := result.get("latency_budget"):
            lines.append(f"  latency   {reached_text(told)}")
        if told := result.get("search"):
            trainings = f"{told['trainings']} training{'s' * (told['trainings'] != 1)}"
            lines.append(
                f"  search    {told['method']}: {trainings}, {_epochs(told['epochs'])} in all, {told['seconds']:.0f} s"
            )
        lines += [f"  health    {sentence}" for sentence in result["advice"]]
    if told := result.get("recovery"):
        ends = [told[f"mean_jsv_{end}"] for end in ("before", "after")]
        jsv = "" if None in ends else f", mean JSV {ends[0]:.4g} before, {ends[1]:.4g} after"
        lines.append(f"  recovery  {told['how']}{jsv}")
    if "val_accuracy" in result:
        lines.append(
            f"  accuracy  {result['val_accuracy']:.2%} on the validation images after {_epochs(result['epochs'])} "
            f"(best {result['best_val_accuracy']:.2%})"
        )
    if "parity" in result:
        lines.append(f"  parity    {'torch and onnxruntime agree' if result['parity'] else 'FAILED'}")
    for name, judged in result.get("precisions", {}).items():
        left = f"; {len(judged['float32_layers'])} layers left in float32" if judged["float32_layers"] else ""
        lines.append(
            f"  {name:<9} {judged['after']:.2%} on the validation images, float32 {judged['before']:.2%}{left}"
            f"{'' if judged['passed'] else '; FAILED'}"
        )
    lines += _engine_lines(result)
    for name, size in result["files"].items():
        lines.append(f"  file      {name:<18} {size / 1e6:8.2f} MB")
    if result.get("latency"):
        pruned = pruned_name(result.get("pattern", "unstructured"))
        lines += ["", *latency_table(result["latency"], pruned, screen())]
    return "\n".join(lines)


def compare_text(result: dict[str, Any]) -> str:
    """Methods side by side: what each keeps, by group of layers, and how much they have in common."""
    methods = result["methods"]
    groups = list(next(iter(methods.values()))["groups"])
    rows = [
        (
            name,
            f"{row['seconds']:.1f}",
            f"{row['density']:.2%}",
            f"{row['flop_density']:.2%}",
            *(
                f"{row['groups'][group]['density']:.1%} / {row['groups'][group]['flop_density']:.1%}"
                for group in groups
            ),
            str(row["collapsed_layers"]),
            str(row["empty_channels"]),
            str(row["empty_classes"]),
        )
        for name, row in methods.items()
    ]
    header = ("method", "seconds", "density", "FLOP density", *groups, "collapsed", "empty channels", "empty classes")
    pairs = [(*pair.split(), f"{share:.1%}") for pair, share in result["overlap"].items()]
    return "\n".join(
        [
            f"{result['model']}: {result['budget']}, {result['pattern']}; density / FLOP density by group of layers",
            *aligned(header, rows, "<" + ">" * (len(header) - 1)),
            "",
            f"density layer by layer, from {result['layers'][0]} to {result['layers'][-1]}",
            *aligned(
                ("method", "blank: nothing, full: dense"),
                [(name, _spark(row["layer_densities"])) for name, row in methods.items()],
                "<<",
            ),
            "",
            "overlap (kept by both / kept by either)",
            *aligned(("method", "method", "IoU"), pairs, "<<>"),
        ]
    )


def _both(group: dict[str, float]) -> str:
    return f"{group['density']:.1%} / {group['flop_density']:.1%}"


def _spark(shares: list[float]) -> str:
    """One character per share in [0, 1]; a blank is nothing at all."""
    return "".join(" " if not share else "▁▂▃▄▅▆▇█"[min(7, int(share * 8))] for share in shares)


def converted_text(row: dict[str, Any]) -> str:
    """One file that `ntksap convert` has done, or found done."""
    if row["status"] == "unchanged":
        return f"{row['output']}: unchanged, nothing to do"
    sparsity = "" if row["sparsity"] is None else f", sparsity {row['sparsity']:.2%}"
    return (
        f"{row['input']} -> {row['output']}: {row['from']} to {row['to']}, {row['bytes_in'] / 1e6:.3f} MB to "
        f"{row['bytes_out'] / 1e6:.3f} MB{sparsity}"
    )


def one_line(name: str) -> str:
    """A name out of somebody's file, for a terminal: what would move the cursor is escaped, and its middle may go."""
    shown = printable(name)
    return (
        shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME // 2]}...{shown[-_LONGEST_NAME // 2 + 3 :]}"
    )


def sides_text(sides: Sequence[int]) -> str:
    """A shape: 64x3x7x7."""
    return "x".join(map(str, sides))


def export_text(result: dict[str, Any]) -> str:
    """What an export outside a run directory wrote, and how well it agrees."""
    worst = max(check["max_rel"] for check in result["parity"]["checks"])
    files = [f"  {name:<40} {size / 1e6:.3f} MB" for name, size in result["files"].items()]
    return "\n".join(
        [
            result["model"],
            *files,
            f"  parity    passed, worst {worst:.2g} of the largest logit, on noise",
            *_engine_lines(result),
        ]
    )


def _engine_lines(result: dict[str, Any]) -> list[str]:
    """What the sparse engine runs of a network, and how fast beside model.onnx."""
    if not (told := result.get("engine")):
        return []
    speed = told.get("speed") or {}
    ratio = (speed.get("ratio") or {}).get("value")
    regions = told["regions"] or 0
    uncounted = told.get("uncounted") or []
    macs = f"{'counted ' if uncounted else ''}multiply-accumulates"
    words = [f"{told['macs_share'] or 0:.1%} of the {macs} in {regions} region{'' if regions == 1 else 's'}"]
    words += [f"not counted: {', '.join(uncounted)}"] if uncounted else []
    if ratio is not None:
        words.append(f"{ratio:.2f} times the time of the graph without it, batch {speed['batch']}")
    return [f"  engine    {'; '.join(words)}{'' if told['passed'] else '; FAILED'}"]


def plain(value: Any) -> str:
    """A setting as one types it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def optimized_text(result: dict[str, Any]) -> str:
    """What `ntksap optimize` did."""
    sizes = " -> ".join(f"{size / 1e6:.2f} MB" for size in result["bytes"])
    nodes = " -> ".join(map(str, result["nodes"]))
    lines = [f"{result['source']} -> {result['target']}: {sizes}, {nodes} nodes"]
    lines += [f"  {line}" for line in result["passes"]]
    if checks := result["checks"]:
        worst = max(checks, key=lambda item: float(item["max_abs"]))
        lines.append(
            f"  the same to {worst['max_abs']:.2g} (largest output {worst['scale']:.3g}) in onnxruntime, on noise"
        )
    else:
        lines.append("  not compared")
    return "\n".join(lines)


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"
