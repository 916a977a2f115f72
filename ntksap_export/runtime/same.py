"""Do two graphs compute the same? Both are run on noise; whatever their inputs and outputs are. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

from ntksap_export.errors import ExportError
from ntksap_export.quoting import first_line
from ntksap_export.runtime.engine import give_engine
from ntksap_export.runtime.ort import LEVELS

# type in onnxruntime -> numpy's
_KINDS: Final = {
    "tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip
BATCHES: Final = (1, 2)


@dataclass(frozen=True, slots=True)
class SameCheck:
    """One output of one batch.

    Attributes:
        output: its name.
        batch: images, as far as the graph leaves it open.
        optimization: of onnxruntime over the new graph; over the old one it is always off.
        max_abs: largest difference; where one of them is no finite number and the other another, infinity.
        scale: largest absolute number of the old graph's output.
        top1: share of rows whose largest entry is the same; None where it is no (N, classes).
        passed: max_abs <= atol + rtol * scale.
    """

    output: str
    batch: int
    optimization: str
    max_abs: float
    scale: float
    top1: float | None
    passed: bool


def compare_graphs(
    before: Path | bytes, after: Path | bytes, *, size: int, atol: float, rtol: float, seed: int = 0
) -> tuple[SameCheck, ...]:
    """Run both graphs on the same noise, batches 1 and 2, the new one with onnxruntime's optimization off and on.

    Args:
        before: what is right: a file, or its bytes.
        after: what is compared.
        size: of every open axis of an input other than the first.
        atol: absolute tolerance.
        rtol: tolerance as a share of the largest number of an output.
        seed: of the noise.

    Raises:
        ExportError: the old graph cannot be run here, so that nothing can be compared, or the new one cannot.
    """
    reference = _open(before, "off", "the graph")
    tested = {level: _open(after, level, "the optimized graph") for level in LEVELS}
    names = [output.name for output in reference.get_outputs()]
    checks = []
    for batch in BATCHES if _is_open(reference) else BATCHES[:1]:
        feeds = {item.name: _noise(item, batch, size, seed + at) for at, item in enumerate(reference.get_inputs())}
        expected = _run(reference, names, feeds, "the graph")
        for level, session in tested.items():
            actual = _run(session, names, feeds, "the optimized graph")
            for name, wanted, got in zip(names, expected, actual, strict=True):
                checks.append(_check(name, batch, level, wanted, got, atol, rtol))
    return tuple(checks)


def _open(source: Path | bytes, level: str, what: str) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = LEVELS[level]
    settings.log_severity_level = 4
    give_engine(settings, source)
    try:
        content = str(source) if isinstance(source, Path) else source
        return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception classes have no common public base
        raise ExportError(f"{_cannot(what)} ({first_line(error)}); --no-check goes on without comparing") from error


def _run(session: Any, names: list[str], feeds: Mapping[str, Any], what: str) -> list[Any]:
    try:
        return list(session.run(names, feeds))
    except Exception as error:
        reason = f"{_cannot(what)} on noise ({first_line(error)})"
        raise ExportError(f"{reason}; give the side of its images with --image-size, or --no-check") from error


def _cannot(what: str) -> str:
    return f"onnxruntime cannot run {what}"


def _is_open(session: Any) -> bool:
    return any(item.shape and not isinstance(item.shape[0], int) for item in session.get_inputs())


def _noise(item: Any, batch: int, size: int, seed: int) -> np.ndarray:
    if item.type not in _KINDS:
        raise ExportError(f"no noise can be made for the input '{item.name}' ({item.type}); --no-check goes on without")
    shape = [side if isinstance(side, int) else size for side in item.shape]
    if shape and not isinstance(item.shape[0], int):
        shape[0] = batch
    generator, kind = np.random.default_rng(seed), np.dtype(_KINDS[item.type])
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    return generator.integers(0, 2, shape).astype(kind)


def _check(name: str, batch: int, level: str, wanted: Any, got: Any, atol: float, rtol: float) -> SameCheck:
    before, after = np.asarray(wanted), np.asarray(got)
    if before.dtype.kind not in "fiub" or before.shape != after.shape or not before.size:
        same = before.shape == after.shape and bool((before == after).all())
        return SameCheck(name, batch, level, 0.0 if same else float("inf"), 0.0, None, same)
    one, two = before.astype(np.float64), after.astype(np.float64)
    finite = np.isfinite(one) & np.isfinite(two)
    alike = np.array_equal(one[~finite], two[~finite], equal_nan=True)
    worst = float(np.abs(one[finite] - two[finite]).max(initial=0.0)) if alike else float("inf")
    scale = float(np.abs(one[finite]).max()) if finite.any() else 0.0
    top1 = float((one.argmax(1) == two.argmax(1)).mean()) if one.ndim == 2 else None
    return SameCheck(name, batch, level, worst, scale, top1, worst <= atol + rtol * scale)
