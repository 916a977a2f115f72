"""What `ntksap inspect` prints for a person."""

from __future__ import annotations

from typing import Any

from ntksap_export.cli.columns import aligned
from ntksap_export.cli.texts import one_line, plain, sides_text, summary_text


def inspect_text(result: dict[str, Any]) -> str:
    """What was found in one file, or the state of a run."""
    if result["kind"] == "run directory":
        return summary_text(result) + f"\n  stages    {', '.join(result['stages']) or 'none finished'}"
    rows = [
        (
            one_line(row["name"]),
            sides_text(row["shape"]),
            row["dtype"],
            row["encoding"],
            "" if row["stored_bytes"] is None else f"{row['stored_bytes']:,}",
            f"{row['sparsity']:.2%}",
            _structure(row["structure"], row["masked"]),
        )
        for row in result["tensors"]
    ]
    header = ("tensor", "shape", "dtype", "encoding", "bytes", "sparsity", "pattern")
    return "\n".join(
        [
            f"{result['kind']}, {result['file_bytes'] / 1e6:.3f} MB",
            *aligned(header, rows, "<><<>><"),
            *(f"{key}: {plain(value)}" for key, value in result["facts"].items()),
        ]
    )


def difference_text(result: dict[str, Any]) -> str:
    """What two files differ in; of many tensors stored otherwise, how many."""
    lines = [f"only in {result['first']}: {one_line(name)}" for name in result["only_first"]]
    lines += [f"only in {result['second']}: {one_line(name)}" for name in result["only_second"]]
    lines += [f"{one_line(row['name'])}: {', '.join(_differences(row))}" for row in result["tensors"]]
    lines += ["the graphs differ in more than values"] if result["nodes"] is False else []
    kinds: dict[str, int] = {}
    for one, other in result["encodings"].values():
        kinds[f"{one} / {other}"] = kinds.get(f"{one} / {other}", 0) + 1
    lines += [f"stored otherwise: {count} of {result['compared']}, {pair}" for pair, count in sorted(kinds.items())]
    lines += [] if result["provenance"] else ["provenance differs"]
    said = "the same content" if result["same"] else "different content"
    return "\n".join([*lines, f"{said}: {result['bit_equal']} of {result['compared']} common tensors are equal"])


def _differences(row: dict[str, Any]) -> list[str]:
    said = []
    if "shape" in row:
        said.append(f"shape {sides_text(row['shape'][0])} / {sides_text(row['shape'][1])}")
    if "dtype" in row:
        said.append(f"dtype {row['dtype'][0]} / {row['dtype'][1]}")
    if "mask" in row:
        mask = row["mask"]
        said.append(
            f"mask only in the {mask['only']}" if "only" in mask else f"mask at {mask['positions']:,} positions"
        )
    if "values" in row:
        largest = row["values"]["largest"]
        said.append(
            f"{row['values']['count']:,} values, by up to {'what is not finite' if largest is None else f'{largest:g}'}"
        )
    if "bits" in row:
        said.append("equal values of other bits, as 0 and -0")
    return said


def _structure(found: dict[str, Any] | None, masked: bool) -> str:
    if found is None:
        return ""
    said = [found["pattern"] + (f" along {found['along']}" if found["along"] else "") + ("" if masked else " (zeros)")]
    if found["pattern"] != "empty":
        for channels in ("outputs", "inputs"):
            if empty := found[f"empty_{channels}"]:
                said.append(f"{empty} of {found[channels]} {channels} empty")
    return ", ".join(said)
