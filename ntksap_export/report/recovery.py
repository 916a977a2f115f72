"""What a report says of `--recover`: how near to isometries the layers were before it and after."""

from __future__ import annotations

from ntksap_export.report.inputs import Json, at
from ntksap_export.report.text import plural, seconds


def said(metrics: Json) -> list[str]:
    """Sentences; nothing where nothing was recovered."""
    told = at(metrics, "recovery", default={})
    layers = at(told, "layers", default=[])
    if not told or at(told, "how") == "none":
        return []
    found = [f"Before training, {plural(len(layers), 'layer')} went through --recover {at(told, 'how')}"]
    if layers:
        before, after = (sum(float(at(row, key, default=0)) for row in layers) / len(layers) for key in _ENDS)
        found.append(f"their mean distance to an isometry went from {before:.3g} to {after:.3g}")
    if at(told, "after", "mean") is not None:
        before, after = (float(at(told, key, "mean")) for key in _ENDS)
        found.append(f"the mean singular value of the network's Jacobian from {before:.4g} to {after:.4g}")
    words = f"{', '.join(found)} ({seconds(at(told, 'seconds'))})."
    starved = [row for row in layers if at(row, "empty", default=0)]
    if starved:
        words += f" {plural(len(starved), 'layer')} kept rows without any weight, which nothing can recover."
    return [words]


_ENDS = ("before", "after")
