"""Two profiles held together: matching, intervals, conditions, the verdict; and files that are none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ntksap_export.errors import CheckpointError, ConfigError
from ntksap_export.pipeline import compare_profiles
from ntksap_export.pipeline.conditions import METRICS, Condition, read_conditions
from ntksap_export.pipeline.profile_file import Value, read_profile

PLACE = {"cpu": "a CPU", "cores": 2, "gpu": None, "isa": ["avx2"], "versions": {"onnxruntime": "1.28.0"}}


def cell(variant: str = "sparse", p50: float = 2.0, half: float = 0.02, **changes: Any) -> dict[str, Any]:
    """A measured cell without raw times; `half` is the half width of the median's interval as a share of it."""
    return {
        "variant": variant,
        "backend": "onnxruntime",
        "device": "cpu",
        "precision": "fp32",
        "batch": 1,
        "threads": 2,
        "streams": 1,
        "status": "measured",
        "reason": None,
        "latency_ms": {"p50": p50, "p90": p50 * 1.1, "p95": p50 * 1.2, "p99": p50 * 1.5, "mean": p50 * 1.05},
        "median_ci_ms": [p50 * (1 - half), p50 * (1 + half)],
        "throughput_images_per_s": 1000 / p50,
        "memory": {"load_delta_bytes": 5e6, "run_peak_rss_bytes": 1e8},
        "file_bytes": 1_000_000,
        **changes,
    }


def write(path: Path, *cells: Any, **changes: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"schema": 2, "environment": PLACE, "cells": list(cells), **changes}))
    return path


def compare(tmp_path: Path, old: Any, new: Any, *fail_if: str, strict: bool = False) -> dict[str, Any]:
    """`old` and `new` are a cell or a list of cells."""
    files = [
        write(tmp_path / f"{name}.json", *(cells if isinstance(cells, list) else [cells]))
        for name, cells in {"old": old, "new": new}.items()
    ]
    return compare_profiles(files[0], files[1], fail_if, strict)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p50 > 1.05", [Condition("p50", ">", 1.05)]),
        ("throughput<0.95", [Condition("throughput", "<", 0.95)]),
        (" file_size >= 2 , p99<= 1", [Condition("file_size", ">=", 2.0), Condition("p99", "<=", 1.0)]),
    ],
)
def test_conditions_are_read(text: str, expected: list[Condition]) -> None:
    assert expected == list(read_conditions([text]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p42 > 1", f"no metric 'p42'; known: {', '.join(METRICS)}"),
        ("p50 > 5%", "METRIC OP NUMBER"),
        ("p50 == 1", "METRIC OP NUMBER"),
        ("p50 > 1e400", "METRIC OP NUMBER"),
        ("p50 > 0", "above 0"),
        ("p50 > -1", "METRIC OP NUMBER"),
        ("p50 > nan", "METRIC OP NUMBER"),
        ("", "METRIC OP NUMBER"),
        ("p50 > 1,", "METRIC OP NUMBER"),
        ("1 < p50", "METRIC OP NUMBER"),
        ("p50 > ١", "METRIC OP NUMBER"),
        ("p50 > \x1b[31m", r"\\x1b"),
        ("p50 > " + "9" * 400, "above 0"),
    ],
)
def test_what_is_no_condition(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_conditions([text])


@pytest.mark.parametrize(
    ("low", "ratio", "high", "outcome"),
    [
        (1.06, 1.08, 1.10, "met"),
        (1.04, 1.08, 1.10, "undecided"),
        (1.00, 1.02, 1.04, "not met"),
        (1.05, 1.05, 1.05, "not met"),
        (1.08, 1.08, 1.08, "met"),
        (1.05, 1.06, 1.07, "undecided"),
    ],
)
def test_a_condition_knows_the_noise(low: float, ratio: float, high: float, outcome: str) -> None:
    assert outcome == Condition("p50", ">", 1.05).judge(ratio, low, high)


def test_the_interval_of_a_ratio_is_that_of_both_together() -> None:
    ratio = Value(2.0, 1.9, 2.1).over(Value(1.0, 0.9, 1.1))

    assert 2.0 == ratio.point
    assert math.log(2 / ratio.low) == pytest.approx(math.hypot(math.log(2 / 1.9), math.log(1.1)))
    assert math.log(ratio.high / 2) == pytest.approx(math.hypot(math.log(2.1 / 2), math.log(1 / 0.9)))


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    draw, hits = np.random.default_rng(0), 0
    for _ in range(400):
        old, new = (draw.lognormal(math.log(middle), 0.3, 100) for middle in (2.0, 3.0))
        sides = [
            read_profile_of({"times_ms": list(times), "latency_ms": {}, "median_ci_ms": None}) for times in (old, new)
        ]
        ratio = sides[1].over(sides[0])
        hits += ratio.low <= 1.5 <= ratio.high

    assert 0.93 <= hits / 400 <= 1.0


def read_profile_of(changes: dict[str, Any]) -> Value:
    from ntksap_export.pipeline.profile_file import _values

    return _values(cell(**changes))["p50"]


def test_a_slower_cell_fails_and_is_named(tmp_path: Path) -> None:
    result = compare(tmp_path, [cell(), cell("dense")], [cell(p50=2.4), cell("dense")], "p50 > 1.05")

    assert not result["passed"]
    assert result["line"] == (
        "failed: p50 > 1.05 in 1 of 2 cells, worst 1.200 (1.167 to 1.234), sparse in onnxruntime on cpu, batch 1, "
        "2 threads"
    )
    assert ["met", "not met"] == [row["outcomes"]["p50 > 1.05"] for row in result["cells"]]


def test_a_difference_within_the_noise_is_undecided(tmp_path: Path) -> None:
    noisy = cell(p50=2.2, half=0.2)

    assert compare(tmp_path, cell(), noisy, "p50 > 1.05")["passed"]
    result = compare(tmp_path, cell(), noisy, "p50 > 1.05", strict=True)

    assert not result["passed"]
    assert "p50 > 1.05 in 0 of 1 cell, undecided in 1, worst 1.100 (" in result["line"]


def test_each_metric_is_new_over_old(tmp_path: Path) -> None:
    new = cell(p50=4.0, memory={"load_delta_bytes": 10e6, "run_peak_rss_bytes": 3e8}, file_bytes=500_000)

    (row,) = compare(tmp_path, cell(), new)["cells"]

    expected = {"throughput": 0.5, "load_delta": 2.0, "run_peak": 3.0, "file_size": 0.5}
    assert {name: expected.get(name, 2.0) for name in METRICS} == pytest.approx(
        {name: ratio["value"] for name, ratio in row["ratios"].items()}
    )
    wide = {name for name, ratio in row["ratios"].items() if ratio["low"] < ratio["high"]}
    assert {"p50", "p90", "p95", "p99", "mean", "throughput"} == wide


def test_less_throughput_fails(tmp_path: Path) -> None:
    assert not compare(tmp_path, cell(), cell(p50=3.0), "throughput < 0.9")["passed"]
    assert compare(tmp_path, cell(), cell(p50=1.0), "throughput < 0.9")["passed"]


def test_several_conditions_are_each_said(tmp_path: Path) -> None:
    result = compare(tmp_path, cell(), cell(file_bytes=2_000_000), "p50 > 1.05, run_peak > 1.1", "file_size > 1.5")

    assert [0, 0, 1] == [entry["met"] for entry in result["conditions"]]
    assert result["line"].startswith("failed: p50 > 1.05 in 0 of 1 cell")
    assert "file_size > 1.5 in 1 of 1 cell, worst 2.000, sparse" in result["line"]


@pytest.mark.parametrize(
    "changes", [{"backend": "torch"}, {"batch": 8}, {"threads": 1}, {"streams": 2}, {"precision": "int8"}]
)
def test_cells_of_another_setting_are_not_compared(tmp_path: Path, changes: dict[str, Any]) -> None:
    result = compare(tmp_path, [cell(), cell(p50=9.0, **changes)], [cell()], "p50 > 1.05")

    assert 1 == len(result["cells"])
    assert 1 == len(result["only_old"])
    assert result["passed"]
    assert "no longer measured: sparse" in result["line"]
    assert not compare(tmp_path, [cell(), cell(p50=9.0, **changes)], [cell()], strict=True)["passed"]


def test_a_cell_that_is_skipped_now_is_named_with_its_reason(tmp_path: Path) -> None:
    gone = {key: cell("dense")[key] for key in ("variant", "backend", "device", "precision", "batch", "threads")}
    new = [cell(), {**gone, "status": "skipped", "reason": "out of memory"}]

    result = compare(tmp_path, [cell(), cell("dense")], new)

    assert "no longer measured: dense in onnxruntime on cpu, batch 1, 2 threads (out of memory)" in result["line"]


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no measured cell in common: dense in onnxruntime .* there, sparse"):
        compare(tmp_path, cell("dense"), cell("sparse"))


def test_a_metric_that_no_cell_has_is_an_error(tmp_path: Path) -> None:
    bare = cell(latency_ms={"p50": 2.0})

    with pytest.raises(ConfigError, match="no common cell has p95"):
        compare(tmp_path, bare, bare, "p95 > 2")


def test_another_machine_is_said(tmp_path: Path) -> None:
    other = {**PLACE, "cpu": "another CPU", "versions": {"onnxruntime": "1.29.0", "torch": "2.9"}}
    old, new = write(tmp_path / "o.json", cell()), write(tmp_path / "n.json", cell(), environment=other)

    result = compare_profiles(old, new, ["p50 > 1.05"])

    assert [
        "CPU a CPU before, another CPU now",
        "onnxruntime 1.28.0 before, 1.29.0 now",
        "torch unknown before, 2.9 now",
    ] == result["machine"]
    assert "warning: not the same machine: CPU a CPU" in result["line"]


def test_a_file_of_schema_1_is_understood(tmp_path: Path) -> None:
    times = [2.0 + 0.01 * (index % 7) for index in range(200)]
    first = cell(times_ms=times)
    for key in ("median_ci_ms", "streams", "file_bytes"):
        del first[key]
    first["latency_ms"] = {"p50": 2.03, "p90": 2.06, "p99": 2.06, "mean": 2.03}
    old = write(tmp_path / "old.json", first, schema=1)

    (row,) = compare_profiles(old, write(tmp_path / "new.json", cell(p50=2.03)))["cells"]

    assert 1.0 == pytest.approx(row["ratios"]["p50"]["value"])
    assert row["ratios"]["p50"]["low"] < 1 < row["ratios"]["p50"]["high"]
    assert {"p95", "p99", "mean"} <= row["ratios"].keys()
    assert "file_size" not in row["ratios"]


def test_a_run_directory_stands_for_its_profile(tmp_path: Path) -> None:
    for name, p50 in {"a": 2.0, "b": 3.0}.items():
        write(tmp_path / name / "profile.json", cell(p50=p50))

    assert not compare_profiles(tmp_path / "a", tmp_path / "b", ["p50 > 1.2"])["passed"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ('{"cells": [', "is not JSON"),
        ("[1]", "must hold a JSON object"),
        ("{}", "its schema is None"),
        ('{"schema": 3, "cells": [], "environment": {}}', "its schema is 3"),
        ('{"schema": true, "cells": [], "environment": {}}', "its schema is True"),
        ('{"schema": 2, "cells": {}, "environment": {}}', "needs `cells`, a list"),
        ('{"schema": 2, "cells": [7], "environment": {}}', "cell 0: is neither measured nor skipped"),
        ('{"schema": 2, "environment": {}, "cells": [' + '{"schema":' * 5000, "is not JSON"),
        ("\x00" * 20, "is not JSON"),
        ('{"schema": 2, "environment": {}, "cells": [' + "1" * 5000 + "]}", "is not JSON"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_profile(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(CheckpointError, match=said) as caught:
        read_profile(path)
    assert "bad.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variant": 7}, "variant, backend"),
        ({"batch": "1"}, "batch, threads"),
        ({"batch": -1}, "batch, threads"),
        ({"threads": True}, "batch, threads"),
        ({"latency_ms": [1]}, "latency_ms that is no object"),
        ({"latency_ms": {"p50": 0}}, "no median above 0"),
        ({"latency_ms": {"p50": "2"}}, "no median above 0"),
        ({"latency_ms": {"p50": float("nan")}}, "no median above 0"),
        ({"latency_ms": {"p50": 10**400}}, "no median above 0"),
        ({"times_ms": [1.0, "2"]}, "times that are no numbers"),
        ({"times_ms": [1.0, -2.0]}, "times that are no numbers"),
        ({"memory": 5}, "memory that is no object"),
    ],
)
def test_a_cell_that_is_none(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "bad.json", cell(**changes))

    with pytest.raises(CheckpointError, match=said):
        read_profile(path)


def test_one_cell_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cell 1: is there twice: sparse in onnxruntime"):
        read_profile(write(tmp_path / "bad.json", cell(), cell()))


def test_a_name_cannot_steer_a_terminal(tmp_path: Path) -> None:
    evil = cell("\x1b[2J" + "x" * 500)

    line = compare(tmp_path, evil, evil, "p50 > 1.05")["line"]

    assert line.isprintable()
    assert len(line) < 300
