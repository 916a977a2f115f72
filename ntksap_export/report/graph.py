"""What model.onnx is, as parity.json tells it: what it takes, and what the export removed of it."""

from __future__ import annotations

from ntksap_export.report.inputs import Json, ReportInput, at
from ntksap_export.report.text import count, percent


def input_of(data: ReportInput) -> tuple[tuple[int, ...], str]:
    """Shape of one image as the graph takes it, and the name of its numpy type."""
    sides = [int(side) for side in at(data.config, "pretrained_cfg", "input_size", default=[3, 224, 224])]
    taken = at(data.parity, "takes", default={})
    if at(taken, "layout") == "NHWC":
        sides = [*sides[1:], sides[0]]
    return (1, *sides), str(at(taken, "dtype", default="float32"))


def preparation(data: ReportInput) -> str:
    """What the caller does to an image, in a sentence; nothing where nobody knows."""
    mean, std = (at(data.config, "pretrained_cfg", key) for key in ("mean", "std"))
    if not (mean and std):
        return ""
    numbers = f"mean {mean} and std {std}"
    taken = at(data.parity, "takes", default={})
    if at(taken, "graph_mean") is None:
        return f"Images are RGB in [0, 1], then normalized per channel with {numbers}."
    pixels = "RGB bytes, height x width x channel" if at(taken, "dtype") == "uint8" else "RGB in [0, 1]"
    return f"Images are {pixels}, as they are: the graph itself normalizes them per channel with {numbers}."


def compaction(parity: Json) -> str:
    """What `drop_dead_channels` removed; nothing where it removed nothing or did not run."""
    for entry in at(parity, "pass_log", default=[]):
        totals = at(entry, "totals", default={})
        if at(entry, "pass") != "drop_dead_channels" or not at(totals, "channels"):
            continue
        before, after = totals["channels"]
        if before == after:
            return ""
        words = (("parameters", "parameters"), ("macs", "multiply-adds"))
        shares = [f"{_gone(totals[key])} of the {word}" for key, word in words if at(totals, key)]
        return f"{count(before - after)} of {count(before)} channels" + (f": {', '.join(shares)}" if shares else "")
    return ""


def zeros(parity: Json) -> str:
    """How the zeros of a mask stand in the file, and what a runtime makes of them."""
    stored = "left out of its file (sparse_initializer)" if at(parity, "sparse_initializers") else "stored as zeros"
    return (
        f"Zeros in model.onnx are {stored}. A runtime without sparse kernels multiplies by them, so the theoretical "
        "speed-up is a count of operations, not a latency."
    )


def _gone(pair: list[int]) -> str:
    before, after = pair
    return percent((before - after) / before) if before else percent(0.0)
