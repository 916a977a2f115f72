from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ntksap_export.errors import UnavailableError
from ntksap_export.profiling import roofline
from ntksap_export.profiling.one_shot import ask
from ntksap_export.profiling.roofline import array_bytes, best_gflops, copy_gb_s, measure_machine

MODULES = {
    "says": 'import json, sys; print(json.dumps({"answer": json.loads(sys.stdin.readline())["threads"]}))',
    "refuses": 'import sys; sys.stdin.readline(); print(\'{"error": "no such kernel"}\')',
    "breaks": 'import sys; sys.stdin.readline(); raise SystemExit("a last word")',
    "dies": "import os, signal, sys; sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)",
    "pools": 'import json, os; print(json.dumps({"answer": os.environ["OMP_NUM_THREADS"]}))',
}


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in MODULES.items():
        (tmp_path / f"{name}_module.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("name", "expected"), [("says", 3), ("pools", "3")])
def test_a_question_is_answered_by_a_process_with_its_threads(name: str, expected: object) -> None:
    assert expected == ask(f"{name}_module", {"threads": 3})


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refuses", "^no such kernel$"),
        ("breaks", "^the measuring process ended with code 1: a last word$"),
        ("dies", r"^the measuring process was killed \(out of memory\?\)$"),
    ],
)
def test_a_question_without_an_answer_says_why(name: str, message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        ask(f"{name}_module", {"threads": 1})


class Clock:
    """Nanoseconds: each look is at the next of these times, the last for ever."""

    def __init__(self, *times: float) -> None:
        self._times = list(times)

    def __call__(self) -> int:
        return int(self._times.pop(0) if len(self._times) > 1 else self._times[0])


def test_the_peak_is_that_of_the_fastest_call() -> None:
    # the start, then before and after each of five calls, and a look at whether it is enough
    durations = [9, 4, 5, 8, 7]
    times = [0.0]
    for number, ms in enumerate(durations):
        times += [100e6 * number, 100e6 * number + ms * 1e6]
    calls: list[None] = []

    actual = best_gflops(lambda: calls.append(None), operations=8_000_000, clock=Clock(*times, 1e12))

    assert actual == 8e6 / 4e-3 / 1e9
    assert len(calls) == 6


def test_a_copy_counts_what_is_read_and_what_is_written() -> None:
    times = [number * 1e6 for number in range(16)]  # every copy takes 1 ms

    assert copy_gb_s(8_000, threads=3, clock=Clock(*times)) == 2 * 8_000 / 1e-3 / 1e9


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (["48K", "1024K", "32768K"], 128 << 20),
        (["1M"], 64 << 20),
        (["1024M"], 512 << 20),
        (["?"], 64 << 20),
        ([], 64 << 20),
    ],
)
def test_arrays_are_larger_than_the_cache(sizes: list[str], expected: int, tmp_path: Path) -> None:
    for number, size in enumerate(sizes):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(f"{size}\n")

    assert expected == array_bytes(tmp_path)


def test_this_machine_is_measured_and_says_how() -> None:
    found = measure_machine((1,), ("fp32", "int8"))

    assert found["peak_gflops"]["1"] > 0
    assert found["peak_gflops_int8"]["1"] > 0
    assert found["bandwidth_gb_s"]["1"] > 0
    assert "peak_gflops_bf16" not in found
    assert found["method"].startswith("peak: the fastest product of square matrices of side 512 and 1024 (float32 by")
    assert json.loads(json.dumps(found)) == found


def test_each_number_of_threads_has_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def answer(module: str, spec: dict[str, Any]) -> dict[str, Any]:
        asked.append({"module": module, **spec})
        if spec["threads"] == 64:
            raise UnavailableError("64 threads were asked for; this process may use 2 CPUs")
        return {"peaks": {"fp32": 10.0 * spec["threads"]}, "bandwidth": 5.0, "reasons": {}, "array_bytes": 128 << 20}

    monkeypatch.setattr(roofline, "ask", answer)

    found = measure_machine((1, 2, 1, 64))

    assert [spec["threads"] for spec in asked] == [1, 2, 64]
    assert found["peak_gflops"] == {"1": 10.0, "2": 20.0, "64": None}
    assert found["bandwidth_gb_s"] == {"1": 5.0, "2": 5.0, "64": None}
    assert found["reasons"] == {"fp32": "64 threads were asked for; this process may use 2 CPUs"}
    assert "8 copies of 128 MiB" in found["method"]


def test_a_kernel_that_is_not_there_leaves_its_peak_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_torch_peak", lambda _: (_ for _ in ()).throw(RuntimeError("no bf16 here\nat all")))
    monkeypatch.setattr(roofline, "array_bytes", lambda: 80_000)

    found = roofline.measure_here({"threads": 1, "graphs": {}, "precisions": ["bf16"]})

    assert (found["peaks"], found["reasons"]) == ({"bf16": None}, {"bf16": "no bf16 here"})


def test_the_peak_is_measured_without_torch() -> None:
    code = (
        "import sys; from ntksap_export.profiling import layers_worker, roofline; import ntksap_export.runtime.ort; "
        "sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
